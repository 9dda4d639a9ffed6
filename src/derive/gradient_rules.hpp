// What forward and reverse mode share: partial derivatives of elementwise ops, and the shape of derivative
// calls.
#pragma once

#include <cstddef>
#include <vector>

#include "support/function_ref.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Floats and complex numbers have derivatives. The cotangent of a complex value is dL/dre - i dL/dim (JAX's convention): the
// rules of functions that are complex differentiable are then those of real ones, in both modes, and CAST, CONJ, AS_REAL and
// AS_COMPLEX alone have their own.
constexpr bool has_derivative(DType d) { return is_float(d) || is_complex(d); }

// Whether a derivative of n flows to its source i: both have derivatives and n is not piecewise constant.
bool carries_derivative(const Node* n, std::size_t i);

// t * d n / d source i of an elementwise op, null when it is zero. The Jacobian is diagonal, so that forward
// mode (t = tangent of the source) and reverse mode (t = cotangent of n) use the same line.
//   abs' = sign (0 at 0); sqrt' at 0 is inf; max and min share ties equally; where() passes t or 0, so that a
//   NaN below the branch not taken stays out of t, though 0 * inf further below it may still make one, as in
//   JAX.
UOp times_partial(Node* n, std::size_t i, const UOp& t);

// For a REDUCE by max or min: 1 / (number of extrema) where the source is extreme, 0 elsewhere; in the
// source's shape.
UOp extremum_weights(Node* reduce);

// A derivative of a product over axes, by a halving tree of MULs: it holds where factors are zero, as do those of any order.
// `of` gives it of the tree over a symbol for the source x, along a symbol for `by` (a cotangent, or a tangent of x). Not over
// x itself: the builders of the tree look through a RESHAPE, and what is below it is no function of it.
UOp product_derivative(Node* reduce, const UOp& by,
                       FunctionRef<UOp(const UOp& tree, const UOp& x, const UOp& along)> of);

// Number of GETs of a node with several outputs.
std::size_t output_count(const Node* whole);

// A SCAN_VJP or EVOLVE_VJP, seen as a call: the cotangents of `inputs` of the primal node.
struct VjpCall {
  explicit VjpCall(Node* vjp_node);
  UOp primal(const std::vector<UOp>& new_inputs) const;  // the SCAN or EVOLVE at other inputs

  Node* node;
  std::size_t first;  // source number of input 0
  std::vector<UOp> inputs, cotangents;
};
// The SCAN or EVOLVE itself, or the one that a vjp of it goes back through.
UOp primal_of(Node* whole);
// The outputs of a SCAN or EVOLVE.
std::vector<UOp> outputs_of(const UOp& whole);
// The node that pulls cotangents (one per output, null for zero) back to the sources of a SCAN or EVOLVE.
UOp vjp_node(const UOp& whole, std::vector<UOp> cotangents);

// Flags that every node above one of these has; a node that lacks one of the bits is above none of them.
std::uint8_t common_flags(std::span<const UOp> leaves);
inline bool may_depend(const Node* n, std::uint8_t common) { return (n->flags & common) == common; }

// The transpose of FFT, RFFT or IRFFT, applied to a cotangent.
UOp fft_adjoint(const Node* n, const UOp& ct);

}  // namespace tinyphys
