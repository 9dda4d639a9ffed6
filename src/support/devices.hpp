// The names of all devices, in the order in which they are listed. Each is one file (or folder) of src/runtime, which
// adds it by its name.
#pragma once

#include <string_view>

namespace tinyphys {

inline constexpr std::string_view kDeviceNames = "cpu interp null island";

}  // namespace tinyphys
