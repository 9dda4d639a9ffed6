// The names of all devices, in the order in which they are listed. Each is one file (or folder) of src/runtime, which
// adds it by its name.
#pragma once

#include <string>
#include <string_view>

namespace tinyphys {

inline constexpr std::string_view kDeviceNames = "cpu interp null island cl cl:1 cl:2 cl:3";

// A device by its place, counted from 1; empty where there is none.
constexpr std::string_view device_name(int number) {
  std::string_view rest = kDeviceNames;
  for (int n = 1; n < number; ++n) {
    const std::size_t space = rest.find(' ');
    if (space == std::string_view::npos) return {};
    rest.remove_prefix(space + 1);
  }
  return number < 1 ? std::string_view() : rest.substr(0, rest.find(' '));
}
// The other way round; 0 for a name that is none. "cl:0" is "cl".
constexpr int device_number(std::string_view name) {
  if (name == "cl:0") name = "cl";
  for (int n = 1; !device_name(n).empty(); ++n)
    if (device_name(n) == name) return n;
  return 0;
}

// What is said of an operation on two.
inline std::string different_devices(int a, int b) {
  return "operands on different devices, " + std::string(device_name(a)) + " and " +
         std::string(device_name(b)) + "; move one with to(device)";
}

}  // namespace tinyphys
