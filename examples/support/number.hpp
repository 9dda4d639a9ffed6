// Numbers from text, the same in every locale.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace example {

inline std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const auto first = text.find_first_not_of(kBlank);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

/// The whole text as a double; nothing when any of it is left over or it is beyond the range of doubles.
/// "nan" and "inf" are numbers here.
inline std::optional<double> parse_double(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

/// An integer, also written as 1e9; nothing when it is not a whole number of at most 2^63 - 1.
inline std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  const std::optional<double> real = parse_double(text);
  constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it a double may stand for its neighbour
  if (!real || !(std::abs(*real) <= kExact) || *real != std::floor(*real)) return {};
  return static_cast<std::int64_t>(*real);
}

}  // namespace example
