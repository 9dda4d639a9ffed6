// Small builders of UOp graphs, for gradient rules and physics passes.
//
// They build no node that does nothing: a reshape to the same shape, a cast to the same dtype, a product with
// a broadcast 1, a double negation give the operand. Only identities that hold in every bit are used: x + 0
// stays (it changes -0), x * 0 stays (NaN). Operands of elementwise builders have one shape and dtype, as the
// ops do.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// --- constants -----------------------------------------------------------------------------------------

// CONST, reshaped and expanded to the shape.
UOp full(DType d, std::span<const std::int64_t> shape, double v);
UOp full_like(const UOp& x, double v);
UOp zeros_like(const UOp& x);
UOp ones_like(const UOp& x);
UOp iota(std::int64_t n);  // int64 0..n-1
// Whether x is the number v broadcast to some shape (0 matches +0 only).
bool is_full(const Node* x, double v);

// --- elementwise ---------------------------------------------------------------------------------------

UOp unary(Op op, const UOp& x);
UOp neg(const UOp& x);
UOp cast(const UOp& x, DType d);
UOp powi(const UOp& x, std::int64_t k);  // |k| <= 64
UOp add(const UOp& a, const UOp& b);
UOp sub(const UOp& a, const UOp& b);
UOp mul(const UOp& a, const UOp& b);
UOp div(const UOp& a, const UOp& b);
UOp scaled(const UOp& x, double factor);  // x * factor, in x's dtype
UOp offset(const UOp& x, double term);    // x + term, in x's dtype
UOp compare(Op op, const UOp& a, const UOp& b);
UOp where(const UOp& condition, const UOp& yes, const UOp& no);

// --- movement ------------------------------------------------------------------------------------------

UOp reshape(const UOp& x, std::span<const std::int64_t> shape);
UOp permute(const UOp& x, std::span<const std::int64_t> axes);  // out dim i = in dim axes[i]
UOp transpose_last(const UOp& x);                               // swaps the last two axes
// Moves one axis to another place, the others keep their order.
UOp move_axis(const UOp& x, std::int64_t from, std::int64_t to);
// NumPy broadcasting: x is aligned to the right of the shape.
UOp broadcast_to(const UOp& x, std::span<const std::int64_t> shape);
// x with a new axis of length n at `axis`, its values repeated along it.
UOp repeat_axis(const UOp& x, std::int64_t axis, std::int64_t n);
// The transpose of broadcast_to: sums what broadcasting repeated.
UOp sum_to_shape(const UOp& x, std::span<const std::int64_t> shape);
// (start, stop, step) per axis, normalised as SLICE wants it.
UOp slice(const UOp& x, std::span<const std::int64_t> start_stop_step);
UOp slice_axis(const UOp& x, std::int64_t axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1);
UOp index_axis(const UOp& x, std::int64_t axis, std::int64_t i);  // the axis is dropped
UOp flip(const UOp& x, std::int64_t axis);
// (before, after) per axis; filled with 0.
UOp pad_zeros(const UOp& x, std::span<const std::int64_t> before_after);
UOp cat(std::span<const UOp> parts, std::int64_t axis);
UOp stack(std::span<const UOp> parts, std::int64_t axis);

// --- sums and products ---------------------------------------------------------------------------------

UOp reduce(Reduction kind, const UOp& x, std::span<const std::int64_t> axes);  // the axes are dropped
UOp sum(const UOp& x, std::span<const std::int64_t> axes);
UOp sum_all(const UOp& x);
UOp dot(const UOp& a, const UOp& b);  // sum of a * b over all elements
UOp matmul(const UOp& a, const UOp& b);

}  // namespace tinyphys
