// What every example's main() does: run, or say in one line why not.
#pragma once

#include <exception>
#include <string_view>

#include <fmt/format.h>

namespace example {

template <class F> int run(std::string_view program, F&& f) {
  try {
    f();
    return 0;
  } catch (const std::exception& error) {  // tp::Error: what() names the call, the values and the line
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return 1;
  }
}

}  // namespace example
