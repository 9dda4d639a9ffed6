// Kernel to LLVM IR text.
#pragma once

#include <string>

#include "codegen/kernel.hpp"

namespace tinyphys {

struct RenderTarget {
  int vector_bytes = 64;    // widest registers of the host
  bool vector_math = true;  // libmvec is there
};

inline constexpr RenderCaps kLlvmCaps{.integer_extrema = true, .saturating_casts = true};

// One function per part: void @kernel_<i>(ptr outputs, ptr inputs, ptr slots, i64 begin, i64 end, i64 first,
// i64 last). Deterministic: names by order, no sizes of the machine but the vector width. Arithmetic is
// exactly as written: no fast-math flags, and only FMA is fused.
std::string render_llvm_ir(const Kernel& kernel, const RenderTarget& target);

}  // namespace tinyphys
