// dtype and shape of a node, from its op, sources and args: one function, the only place that knows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

struct Derived {
  DType dtype = DType::kVoid;
  std::vector<std::int64_t> shape;
};

// Throws tp::Error("uop", ...) when the node would be malformed.
void derive(Op op, std::span<Node* const> src, std::span<const std::int64_t> arg, Derived& out);

}  // namespace tinyphys
