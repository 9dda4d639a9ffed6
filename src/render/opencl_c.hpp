// Kernel to OpenCL C text.
#pragma once

#include <string>
#include <vector>

#include "codegen/kernel.hpp"

namespace tinyphys {

struct OpenClTarget {
  int vector_bytes = 64;  // of the vectors that the device likes best
  int work_group = 1;     // work-items of a group, fixed in the text: the driver can finish its code at once
  bool fp64 = true;
};

// Integers saturate in no cast here: convert_*_sat is a call to a library of the driver.
inline constexpr RenderCaps kOpenClCaps{.integer_extrema = true, .saturating_casts = false};

// Every buffer has so many bytes before and after its values that may be read, and mean nothing: a vector that is cut off
// by the end of a loop, or by a gate, is read as a whole.
inline constexpr std::size_t kOpenClMargin = 1024;

// Arguments of a part, in this order: a pointer for each output and input that it touches (to the margin), its slots, how
// many units a work-item does, how many there are, and for a scan the first step and the last.
struct OpenClArguments {
  struct Slot {
    std::int64_t number;
    DType dtype;
  };
  std::vector<std::int64_t> outputs, inputs;
  std::vector<Slot> slots;
  bool steps = false;
};
OpenClArguments opencl_arguments(const Program& p);

// One function per part: kernel_<i>. Arithmetic is exactly as written (FP_CONTRACT OFF), only FMA is fused. Lanes are
// vectors, several of them side by side where a program has more lanes than a vector. Throws tp::Error for float64 on a device
// that has none.
std::string render_opencl_c(const Kernel& kernel, const OpenClTarget& target, const std::string& device);

}  // namespace tinyphys
