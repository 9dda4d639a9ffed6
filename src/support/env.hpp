#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// The environment variables, all declared in the one table in env.cpp and described for users in
/// docs/environment.md. Each is read once, at the first call of any getter; getters are thread-safe and cheap.
namespace tinyphys::env {

enum class ProgressChoice { Auto, Off, On };

/// What TINYPHYS_DEBUG may name beside a level.
inline constexpr std::string_view kDebugTopics =
    "graph rewrite physics schedule kernel source ir asm cache time";
int debug_level();
/// Whether this topic was named; false for what is none.
bool debug_topic(std::string_view topic);
/// The folder of dumps; empty where none are wanted. dumping() is the cheap question.
std::string debug_dir();
bool dumping();
std::string_view device();      ///< its name
std::string_view cost_model();  ///< the kind it names
bool optimize();
int threads();
bool verify();
ProgressChoice progress();
bool fold();
std::size_t pending();
double tape_bytes();  ///< of the states that a gradient may keep
bool cache();
/// The folder of compiled kernels; "" where no variable gives one. Default: TINYPHYS_CACHE_DIR is unset.
std::string cache_dir();
bool cache_dir_is_default();
std::int64_t cache_max_bytes();
bool long_tests();
/// Of the tests that draw at random; `fallback` where the variable is unset.
std::int64_t fuzz_seed(std::int64_t fallback);
std::int64_t fuzz_graphs(std::int64_t fallback);
std::int64_t test_seed(std::int64_t fallback);
bool update_golden();

/// "4096", "512M": bytes, or so many K, M, G or T of 1024. None: it is no size.
std::optional<std::int64_t> bytes_from_text(std::string_view text);

/// One row of the table, as text.
struct Variable {
  std::string_view name;
  std::string_view values;
  std::string_view fallback;  ///< what holds when the variable is unset, empty or not understood
  std::string_view doc;
};
std::span<const Variable> variables();

/// CPUs that this process may run on (sched_getaffinity), at least 1.
int available_cpus();

/// Makes the getters behave as if the environment held `name=value`, with the same warning for a bad value;
/// nullopt goes back to the real environment. Throws Error for a name that is not in the table. For tests.
void set_override(std::string_view name, std::optional<std::string_view> value);

/// An override for the life of a scope; restores the override that was there before.
class ScopedOverride {
 public:
  ScopedOverride(std::string_view name, std::string_view value);
  ~ScopedOverride();
  ScopedOverride(const ScopedOverride&) = delete;
  ScopedOverride& operator=(const ScopedOverride&) = delete;

 private:
  std::string name_;
  std::optional<std::string> previous_;
};

}  // namespace tinyphys::env
