// Devices of OpenCL drivers, without their headers.
#pragma once

#include <memory>
#include <string>

#include "runtime/device.hpp"

namespace tinyphys {

enum class OpenClStyle : std::uint8_t {
  kAsDevice,  // vectors on a CPU, work-items elsewhere
  kItems      // work-items that hold one value each, in groups: what a GPU gets
};

// The device that its driver lists as number `number`, counted from 0. Throws tp::Error that says which step found none.
std::unique_ptr<Device> open_opencl_device(int number, std::string_view name, OpenClStyle style);

// Ends with tp::Error where a loader of this name cannot be used.
void try_opencl_loader(const char* library);

}  // namespace tinyphys
