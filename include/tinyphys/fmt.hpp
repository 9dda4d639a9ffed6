// fmt::print("{}", tensor).
#pragma once

#include <string_view>

#include <fmt/format.h>

#include "tinyphys/tensor.hpp"

// Takes the width and fill of strings: "{:>40}".
template <> struct fmt::formatter<tinyphys::Tensor> : fmt::formatter<std::string_view> {
  template <class Context> auto format(const tinyphys::Tensor& x, Context& context) const {
    return fmt::formatter<std::string_view>::format(tinyphys::to_string(x), context);
  }
};
