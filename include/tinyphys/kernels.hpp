// How the kernels of this process came to be.
#pragma once

#include <cstdint>

namespace tinyphys {

/// Of all devices, since the process began. Each request for a kernel counts in one of the first three.
struct KernelCounts {
  std::int64_t memory_hits = 0;  ///< ready in this process
  std::int64_t disk_hits = 0;    ///< compiled by an earlier process, read from the kernel cache
  std::int64_t compiled = 0;     ///< compiled here
  std::int64_t rejected =
      0;  ///< files of the kernel cache that were not what they should be, and were deleted
};
/// A request is made when a plan first runs; a plan that is found ready asks for nothing. Thread-safe.
KernelCounts kernel_counts();

}  // namespace tinyphys
