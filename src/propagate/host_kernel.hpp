// Kernels that a jump runs by itself on the host's memory, between reading its values and writing its result: generated as
// all others are, by the code generator and the CPU device, which are later stages.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "uop/uop.hpp"

namespace tinyphys {

class HostKernel {
 public:
  virtual ~HostKernel() = default;
  // One pointer per output of the LAMBDA, and per PARAM (null for scalar slots); `scalars` has the bits of each scalar slot.
  // On the calling thread; any number of threads may call.
  virtual void run(std::span<void* const> outputs, std::span<const void* const> inputs,
                   std::span<const std::int64_t> scalars) const = 0;
};

// Compiles or finds a LAMBDA of elementwise values over arrays. Throws tp::Error("compile") for others.
std::shared_ptr<const HostKernel> host_kernel(const UOp& lambda);
// Before main(), by a static object of the device's file. Returns true.
bool set_host_kernels(std::shared_ptr<const HostKernel> (*make)(const UOp& lambda));

}  // namespace tinyphys
