#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tinyphys {

/// The one exception type of the library. what() reads `[call] message (sim.cpp:12)`: the public call that was
/// misused, what happened with the values in it, and the user's own line. The place is left out when line() is 0.
class Error : public std::runtime_error {
 public:
  Error(std::string_view call, std::string_view message,
        std::source_location where = std::source_location::current());
  /// For a place that was recorded earlier; `file` may be null when `line` is 0.
  Error(std::string_view call, std::string_view message, const char* file, unsigned line);

  const std::string& call() const { return call_; }
  const std::string& message() const { return message_; }
  /// As the compiler gave it; only what() shortens it to the base name.
  const std::string& file() const { return file_; }
  unsigned line() const { return line_; }

 private:
  std::string call_;
  std::string message_;
  std::string file_;
  unsigned line_;
};

}  // namespace tinyphys
