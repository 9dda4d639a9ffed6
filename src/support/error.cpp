#include "tinyphys/error.hpp"

#include <fmt/format.h>

namespace tinyphys {

namespace {

std::string describe(std::string_view call, std::string_view message, std::string_view file, unsigned line) {
  if (line == 0) return fmt::format("[{}] {}", call, message);
  // npos + 1 is 0: a name without a folder stays whole.
  std::string_view base = file.substr(file.find_last_of('/') + 1);
  return fmt::format("[{}] {} ({}:{})", call, message, base, line);
}

}  // namespace

Error::Error(std::string_view call, std::string_view message, std::source_location where)
    : Error(call, message, where.file_name(), where.line()) {}

Error::Error(std::string_view call, std::string_view message, const char* file, unsigned line)
    : std::runtime_error(describe(call, message, file ? file : "", line)),
      call_(call),
      message_(message),
      file_(file ? file : ""),
      line_(line) {}

}  // namespace tinyphys
