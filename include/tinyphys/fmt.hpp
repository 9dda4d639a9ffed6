// fmt::print("{} {:.3f} {} {}", tensor, tensor, dtype, shape).
#pragma once

#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tinyphys/tensor.hpp"

// A format of numbers, "{:8.3f}", "{:+.2e}", "{:04d}", is that of each element. Fill, alignment and width alone,
// "{:>40}", are those of the whole text.
template <> struct fmt::formatter<tinyphys::Tensor> : fmt::formatter<std::string_view> {
  constexpr auto parse(fmt::format_parse_context& context) {
    const char *at = context.begin(), *const end = context.end();
    auto is = [&](std::string_view any) { return at != end && any.find(*at) != std::string_view::npos; };
    auto skip_digits = [&] {
      while (is("0123456789")) ++at;
    };
    if (end - at > 1 && (at[1] == '<' || at[1] == '>' || at[1] == '^')) ++at;
    if (is("<>^")) ++at;
    const bool of_numbers = is("+- #0");
    while (is("+- #0")) ++at;
    skip_digits();
    if (!of_numbers && (at == end || is("}{s"))) return fmt::formatter<std::string_view>::parse(context);
    if (is(".")) {
      ++at;
      skip_digits();
    }
    if (is("{")) throw fmt::format_error("the format of a Tensor takes its digits as a number: {:.3f}");
    if (is("aAbBcdeEfFgGoxX")) ++at;
    if (at != end && *at != '}') throw fmt::format_error("not a format of numbers: {:8.3f}, {:.2e}, {:d}");
    spec_ = std::string_view(context.begin(), static_cast<std::size_t>(at - context.begin()));
    return at;
  }
  template <class Context> auto format(const tinyphys::Tensor& x, Context& context) const {
    const std::string text = tinyphys::to_string(tinyphys::Arg(x, tinyphys::Where()), spec_);
    if (spec_.empty()) return fmt::formatter<std::string_view>::format(text, context);
    return fmt::format_to(context.out(), "{}", text);
  }

 private:
  std::string_view spec_;
};

template <> struct fmt::formatter<tinyphys::DType> : fmt::formatter<std::string_view> {
  template <class Context> auto format(tinyphys::DType d, Context& context) const {
    return fmt::formatter<std::string_view>::format(tinyphys::name(d), context);
  }
};
