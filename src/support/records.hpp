// What the compiler has found, decided and measured, written down where it was decided. explain() prints records.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tinyphys {

enum class Finding : std::uint8_t {
  kEvolve,
  kScan,
  kTerms,
  kProved,
  kFound,
  kOffers,
  kRefused,
  kChose,
  kError,
  kSpectrum,
  kWarns,
  kRepeats,
  kPlan,
  kValue
};

constexpr std::string_view name(Finding f) {
  switch (f) {
    case Finding::kEvolve: return "evolve";
    case Finding::kScan: return "scan";
    case Finding::kTerms: return "terms";
    case Finding::kProved: return "proved";
    case Finding::kFound: return "found";
    case Finding::kOffers: return "offers";
    case Finding::kRefused: return "refused";
    case Finding::kChose: return "chose";
    case Finding::kError: return "error";
    case Finding::kSpectrum: return "spectrum";
    case Finding::kWarns: return "warns";
    case Finding::kRepeats: return "repeats";
    case Finding::kPlan: return "plan";
    case Finding::kValue: return "value";
  }
  return "?";
}

// One finding: the sentence, the user's file:line where there is one, and the numbers in it by name.
struct Record {
  using Number = std::variant<double, std::int64_t, std::string>;
  Finding key;
  std::string text;
  std::string where = {};
  std::vector<std::pair<std::string, Number>> numbers = {};
};
using Records = std::vector<Record>;

// What a decision has noted: cheap to make, put into words only when somebody asks.
class Notes {
 public:
  virtual ~Notes() = default;
  virtual void report(Records& to) const = 0;
};

// "1,000,000", "388 us", "2.1 days"
std::string with_commas(std::int64_t n);
std::string duration_text(double seconds);

}  // namespace tinyphys
