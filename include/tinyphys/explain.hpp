// What the compiler found in a computation, what it did with it, and at what error.
#pragma once

#include <ostream>
#include <string>

#include <fmt/core.h>

#include "tinyphys/tensor.hpp"

namespace tinyphys {

// One line a finding: a key word (docs/explain.md lists them), the finding, and the user's file:line where there is
// one. The last evolution or scan comes first; what repeats is told once, with its count.
struct Report {
  std::string text;
  // The same findings: {"entries": [[finding, ...], ...], "value": [finding, ...]}, a finding being {"key", "text",
  // "where" where known, "numbers": {name: value}}. Times are in seconds, errors relative.
  const std::string& json() const { return json_text; }

  std::string json_text;
};

// The report of everything below t. Before t is realized it has the structural part: what was proved of each
// evolution and which jump is on offer. Once it has run, also what was decided from values: the structure found, the
// cost of jump and loop, the error bound, stability. Never runs anything. Throws tp::Error for an empty tensor.
Report explain(const Tensor& t, Where where = Where::current());

inline std::ostream& operator<<(std::ostream& out, const Report& r) { return out << r.text; }

}  // namespace tinyphys

template <> struct fmt::formatter<tinyphys::Report> : fmt::formatter<fmt::string_view> {
  auto format(const tinyphys::Report& r, fmt::format_context& context) const {
    return fmt::formatter<fmt::string_view>::format(fmt::string_view(r.text), context);
  }
};
