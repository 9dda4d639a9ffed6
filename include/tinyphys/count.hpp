// A number of steps.
#pragma once

#include <concepts>
#include <cstdint>
#include <source_location>

namespace tinyphys {

// Made from any integer, or from a floating-point number that is whole: 1e9 is a number of steps, 2.5 is an error
// (tp::Error, with the line).
class Count {
 public:
  constexpr Count() = default;
  template <std::integral T>
  requires(!std::same_as<T, bool>) constexpr Count(
      T n, std::source_location where = std::source_location::current())
      : n_(static_cast<std::int64_t>(n)) {
    if (std::unsigned_integral<T> && n_ < 0) not_whole(static_cast<double>(n), where);
  }
  template <std::floating_point T>
  Count(T n, std::source_location where = std::source_location::current())
      : n_(whole(static_cast<double>(n), where)) {}

  constexpr operator std::int64_t() const { return n_; }
  constexpr std::int64_t value() const { return n_; }

 private:
  static std::int64_t whole(double n, std::source_location where);
  [[noreturn]] static void not_whole(double n, std::source_location where);

  std::int64_t n_ = 0;
};

}  // namespace tinyphys
