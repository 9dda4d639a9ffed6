// The devices of this machine.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace tinyphys {

/// A device and its limits.
struct DeviceInfo {
  std::string name;         ///< as Tensor::to and TINYPHYS_DEVICE take it
  std::string description;  ///< for an OpenCL device what its driver says of itself
  bool available =
      true;  ///< false for "cl" where OpenCL has no device; `description` then says which step found none
  bool float64 = true;
  bool shares_host_memory =
      true;  ///< it works in the memory of the host: nothing is copied for the host to read
  int compute_units = 1;
  int work_group = 1;           ///< work-items that run together, 1 on a CPU
  int vector_bytes = 0;         ///< of the vectors that its kernels are written in; 0 where it has no kernels
  std::int64_t memory = 0;      ///< bytes; 0: what the host has
  std::int64_t max_tensor = 0;  ///< bytes of the largest tensor; 0: what fits into memory
};
/// "cpu", "interp", ..., then every OpenCL device, "cl", "cl:1", ..., in the order of the OpenCL loader, or "cl" as not available.
/// The first call loads the OpenCL drivers.
std::vector<DeviceInfo> devices();

/// Where everything is computed from now on that was moved to no device by Tensor::to, in all threads, as TINYPHYS_DEVICE says
/// at first. Throws tp::Error for a device that is not there, or that runs nothing.
void set_default_device(std::string_view name, std::source_location where = std::source_location::current());

}  // namespace tinyphys
