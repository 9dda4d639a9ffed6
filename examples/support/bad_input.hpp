// What the user gave is wrong: a file, a line of it, an option.
#pragma once

#include <stdexcept>
#include <string>

namespace example {

/// what() is one line for stderr; programs then end with exit code 2.
struct BadInput : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace example
