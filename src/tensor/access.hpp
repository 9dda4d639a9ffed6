// How the other stages see through a Tensor.
#pragma once

#include "tinyphys/tensor.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct TensorAccess {
  static Node* node(const Tensor& t) { return t.node_; }
  static Tensor adopt(Node* owned) { return Tensor(owned); }
  // Changes of the handles of this node are counted from now on (handle_changes).
  static void watch(Node* n) {
    Tensor::watched_.store(true, std::memory_order_relaxed);
    n->refs.watch();
  }
};

// The node of a tensor; empty for a default constructed one.
inline UOp uop(const Tensor& t) { return UOp::share_held(TensorAccess::node(t)); }
inline Tensor tensor(UOp u) {
  if (u) u->refs.promote();
  return TensorAccess::adopt(u.detach());
}

// The node of an operand; a number becomes a CONST of this dtype. Throws tp::Error("call", ...) for an empty tensor
// and for a number that the dtype cannot hold.
UOp uop(const Arg& a, DType number_dtype, std::string_view call);

}  // namespace tinyphys
