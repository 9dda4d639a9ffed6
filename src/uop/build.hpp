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

#include "tinyphys/integrator.hpp"
#include "tinyphys/reversible.hpp"
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
UOp copy_to(const UOp& x, int device);   // as Node::device(); x itself where it is there
UOp powi(const UOp& x, std::int64_t k);  // |k| <= 64
UOp add(const UOp& a, const UOp& b);
UOp sub(const UOp& a, const UOp& b);
UOp mul(const UOp& a, const UOp& b);
UOp div(const UOp& a, const UOp& b);
UOp scaled(const UOp& x, double factor);  // x * factor, in x's dtype
UOp offset(const UOp& x, double term);    // x + term, in x's dtype
UOp compare(Op op, const UOp& a, const UOp& b);
UOp where(const UOp& condition, const UOp& yes, const UOp& no);

// --- complex numbers -----------------------------------------------------------------------------------

UOp as_real(const UOp& z);     // complex [...] as float [..., 2]: the same bytes
UOp as_complex(const UOp& x);  // the other way round
UOp complex_of(const UOp& re, const UOp& im);
UOp real_part(const UOp& z);
UOp imag_part(const UOp& z);
UOp conj(const UOp& x);  // x itself where it is real

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

// --- transforms ----------------------------------------------------------------------------------------

// FFT, RFFT and IRFFT (ops.hpp) over distinct axes in any order; of the real ones the last is halved. No axes: x itself, for
// FFT alone.
UOp fft(const UOp& x, std::int64_t sign, std::span<const std::int64_t> axes);
UOp rfft(const UOp& x, std::span<const std::int64_t> axes);
UOp irfft(const UOp& x, std::int64_t length, std::span<const std::int64_t> axes);
// Points of complex numbers that a transform touches, each times the bits of its length.
double fft_work(const Node* n);

// --- loops ---------------------------------------------------------------------------------------------

// A SCAN to be made. The params are symbols of the body's own, one for each value beside it.
struct ScanParts {
  UOp index;  // int64 scalar symbol; null: the body does not ask for the number of the step
  UOp steps;  // int64 scalar
  std::vector<UOp> carry_params, carry;
  std::vector<UOp> row_params, xs;  // in step i a row param is row i of its xs
  std::vector<UOp> captured_params, captured;
  std::vector<UOp> next;  // the carry that leaves the step
  std::vector<UOp> outs;  // stacked
  UOp until;  // bool scalar over next and the params: the step is the last one when true; may be null
  Method method = Method::Default;
  Reversible reversible = Reversible::Auto;
  std::vector<double> range;  // of each carry, of Reversible::Exact
};

// Whatever else the body holds (data, numbers, symbols of outer traces) is captured too. GETs as in scan_layout.hpp.
UOp make_scan(const ScanParts& parts);
// Symbols for the body of an existing SCAN (or SCAN_VJP) and its outputs at them.
ScanParts open_scan(const Node* scan);
// The same loop without `until`: a carry more says that it is done, and a step that is done changes nothing. It takes
// all steps; for derivatives and batches. Its last carry is that flag.
ScanParts without_until(const ScanParts& parts);

UOp symbol_like(const Node* n);
UOp symbol_of_row(const Node* n);  // without the leading axis

}  // namespace tinyphys
