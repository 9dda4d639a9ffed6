#include "machine.hpp"

#include <cstdlib>
#include <fstream>
#include <map>

#include <fmt/format.h>

#include "support/env.hpp"

namespace tinyphys::bench {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  std::map<std::string, std::string> first;  // of the first CPU
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t end = line.find_last_not_of(" \t", colon - 1);
    const std::size_t value = line.find_first_not_of(" \t", colon + 1);
    if (end != std::string::npos && value != std::string::npos)
      first[line.substr(0, end + 1)] = line.substr(value);
  }
  if (first["model name"].empty()) return "unknown CPU";
  if (first["cpu family"].empty()) return first["model name"];
  return fmt::format("{} (family {}, model {})", first["model name"], first["cpu family"], first["model"]);
}

}  // namespace

Machine this_machine() {
  Machine m;
  m.cpu = cpu_name();
  m.cpus = env::available_cpus();
  m.threads = env::threads();
  m.device = std::string(env::device());
#ifdef __clang__
  m.compiler = fmt::format("clang {}.{}", __clang_major__, __clang_minor__);
#else
  m.compiler = fmt::format("g++ {}.{}", __GNUC__, __GNUC_MINOR__);
#endif
  if (getloadavg(&m.load, 1) != 1) m.load = 0;
  return m;
}

}  // namespace tinyphys::bench
