#include "uop/build.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

using Extents = std::span<const std::int64_t>;

std::int64_t rank(const UOp& x) { return static_cast<std::int64_t>(x->shape().size()); }
std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// The value below broadcasts.
const Node* unbroadcast(const Node* n) {
  while (n->op == Op::EXPAND || (n->op == Op::RESHAPE && n->size() == 1)) n = n->src(0);
  return n;
}

// A gradient may be asked for by x: what is made of x must then be made of it, and not of what lies below it.
bool may_be_named(const UOp& x) { return (x->flags & (Node::kHasBuffer | Node::kHasSym)) != 0; }

Dims whole_slice(const UOp& x) {
  Dims arg;
  for (std::int64_t d : x->shape()) arg.insert(arg.end(), {0, d, 1});
  return arg;
}

}  // namespace

UOp full(DType d, Extents shape, double v) { return broadcast_to(constant(v, d), shape); }
UOp full_like(const UOp& x, double v) { return full(x->dtype, x->shape(), v); }
UOp zeros_like(const UOp& x) { return full_like(x, 0); }
UOp ones_like(const UOp& x) { return full_like(x, 1); }
UOp iota(std::int64_t n) { return make(Op::IOTA, {}, {n}); }
bool is_full(const Node* x, double v) { return is_const(unbroadcast(x), v); }

UOp unary(Op op, const UOp& x) { return make(op, {x}); }
UOp neg(const UOp& x) { return x->op == Op::NEG ? x.src(0) : make(Op::NEG, {x}); }
UOp cast(const UOp& x, DType d) {
  return x->dtype == d ? x : make(Op::CAST, {x}, {static_cast<std::int64_t>(d)});
}
UOp copy_to(const UOp& x, int device) {
  return x->device() == device ? x : make(Op::COPY, {x}, {std::int64_t{device}});
}
UOp powi(const UOp& x, std::int64_t k) {
  if (k == 0) return ones_like(x);
  return k == 1 ? x : make(Op::POWI, {x}, {k});
}
// a + (-b) and a - b are the same operation in IEEE arithmetic.
UOp add(const UOp& a, const UOp& b) {
  if (b->op == Op::NEG) return make(Op::SUB, {a, b.src(0)});
  if (a->op == Op::NEG) return make(Op::SUB, {b, a.src(0)});
  return make(Op::ADD, {a, b});
}
UOp sub(const UOp& a, const UOp& b) {
  return b->op == Op::NEG ? make(Op::ADD, {a, b.src(0)}) : make(Op::SUB, {a, b});
}
UOp mul(const UOp& a, const UOp& b) {
  if (is_full(a.get(), 1)) return b;
  if (is_full(b.get(), 1)) return a;
  if (is_full(a.get(), -1)) return neg(b);
  if (is_full(b.get(), -1)) return neg(a);
  return make(Op::MUL, {a, b});
}
UOp div(const UOp& a, const UOp& b) { return is_full(b.get(), 1) ? a : make(Op::DIV, {a, b}); }
UOp scaled(const UOp& x, double factor) { return mul(x, full_like(x, factor)); }
UOp offset(const UOp& x, double term) { return add(x, full_like(x, term)); }
UOp compare(Op op, const UOp& a, const UOp& b) { return make(op, {a, b}); }
UOp where(const UOp& condition, const UOp& yes, const UOp& no) {
  return yes == no ? yes : make(Op::WHERE, {condition, yes, no});
}

UOp reshape(const UOp& x, Extents shape) {
  if (same_words(x->shape(), shape)) return x;
  if (x->op == Op::RESHAPE && !may_be_named(x)) return reshape(x.src(0), shape);
  return make(Op::RESHAPE, {x}, shape);
}
UOp permute(const UOp& x, Extents axes) {
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != static_cast<std::int64_t>(i)) return make(Op::PERMUTE, {x}, axes);
  return x;
}
UOp transpose_last(const UOp& x) { return move_axis(x, rank(x) - 1, rank(x) - 2); }
UOp move_axis(const UOp& x, std::int64_t from, std::int64_t to) {
  Dims axes(x->shape().size());
  std::iota(axes.begin(), axes.end(), std::int64_t{0});
  axes.erase(axes.begin() + from);
  axes.insert(axes.begin() + to, from);
  return permute(x, axes);
}
UOp broadcast_to(const UOp& x, Extents shape) {
  if (same_words(x->shape(), shape)) return x;
  // A single value that was repeated is repeated once more by repeating what lies below.
  if (x->op == Op::EXPAND && x.src(0)->size() == 1 && !may_be_named(x)) return broadcast_to(x.src(0), shape);
  Dims aligned(shape.size(), 1);
  if (x->size() != 1) std::copy_backward(x->shape().begin(), x->shape().end(), aligned.end());
  const UOp y = reshape(x, aligned);
  return same_words(aligned, shape) ? y : make(Op::EXPAND, {y}, shape);
}
UOp repeat_axis(const UOp& x, std::int64_t axis, std::int64_t n) {
  Dims aligned = shape_of(x.get()), shape = aligned;
  aligned.insert(aligned.begin() + axis, 1);
  shape.insert(shape.begin() + axis, n);
  if (x->op == Op::EXPAND && x.src(0)->size() == 1 && !may_be_named(x)) return broadcast_to(x, shape);
  return broadcast_to(reshape(x, aligned), shape);
}
UOp sum_to_shape(const UOp& x, Extents shape) {
  if (same_words(x->shape(), shape)) return x;
  const std::size_t extra = x->shape().size() - shape.size();
  Dims axes;
  for (std::size_t i = 0; i < x->shape().size(); ++i)
    if (i < extra || (shape[i - extra] == 1 && x->shape()[i] != 1))
      axes.push_back(static_cast<std::int64_t>(i));
  return reshape(sum(x, axes), shape);
}
UOp slice(const UOp& x, Extents arg) {
  return same_words(arg, whole_slice(x)) ? x : make(Op::SLICE, {x}, arg);
}
UOp slice_axis(const UOp& x, std::int64_t axis, std::int64_t start, std::int64_t stop, std::int64_t step) {
  Dims arg = whole_slice(x);
  arg[at(3 * axis)] = start;
  arg[at(3 * axis + 1)] = stop;
  arg[at(3 * axis + 2)] = step;
  return slice(x, arg);
}
UOp index_axis(const UOp& x, std::int64_t axis, std::int64_t i) {
  Dims shape = shape_of(x.get());
  shape.erase(shape.begin() + axis);
  return reshape(slice_axis(x, axis, i, i + 1), shape);
}
UOp flip(const UOp& x, std::int64_t axis) {
  const std::int64_t n = x->shape()[at(axis)];
  return n <= 1 ? x : slice_axis(x, axis, n - 1, -1, -1);
}
UOp pad_zeros(const UOp& x, Extents before_after) {
  if (std::all_of(before_after.begin(), before_after.end(), [](std::int64_t n) { return n == 0; })) return x;
  Dims arg{0};  // the bits of +0.0 and of 0
  arg.insert(arg.end(), before_after.begin(), before_after.end());
  return make(Op::PAD, {x}, arg);
}
UOp cat(std::span<const UOp> parts, std::int64_t axis) {
  return parts.size() == 1 ? parts.front() : make(Op::CAT, parts, std::span<const std::int64_t>(&axis, 1));
}
UOp stack(std::span<const UOp> parts, std::int64_t axis) {
  std::vector<UOp> rows;
  for (const UOp& p : parts) rows.push_back(repeat_axis(p, axis, 1));
  return cat(rows, axis);
}

// Only what no gradient can be asked by is looked through, as in reshape().
UOp as_real(const UOp& z) {
  return z->op == Op::AS_COMPLEX && !may_be_named(z) ? z.src(0) : make(Op::AS_REAL, {z});
}
UOp as_complex(const UOp& x) {
  return x->op == Op::AS_REAL && !may_be_named(x) ? x.src(0) : make(Op::AS_COMPLEX, {x});
}
UOp complex_of(const UOp& re, const UOp& im) { return as_complex(stack(std::array{re, im}, rank(re))); }
UOp real_part(const UOp& z) { return index_axis(as_real(z), rank(z), 0); }
UOp imag_part(const UOp& z) { return index_axis(as_real(z), rank(z), 1); }
UOp conj(const UOp& x) { return is_complex(x->dtype) ? make(Op::CONJ, {x}) : x; }

UOp reduce(Reduction kind, const UOp& x, Extents axes) {
  if (axes.empty()) return x;
  Dims arg{static_cast<std::int64_t>(kind)};
  arg.insert(arg.end(), axes.begin(), axes.end());
  return make(Op::REDUCE, {x}, arg);
}
UOp sum(const UOp& x, Extents axes) { return reduce(Reduction::kSum, x, axes); }
UOp sum_all(const UOp& x) {
  Dims axes(x->shape().size());
  std::iota(axes.begin(), axes.end(), std::int64_t{0});
  return sum(x, axes);
}
UOp dot(const UOp& a, const UOp& b) { return sum_all(mul(a, b)); }
UOp matmul(const UOp& a, const UOp& b) { return make(Op::MATMUL, {a, b}); }

namespace {

UOp transform(Op op, const UOp& x, std::int64_t first, Extents axes, std::size_t sorted) {
  Dims arg{first};
  arg.insert(arg.end(), axes.begin(), axes.end());
  std::sort(arg.begin() + kFirstFftAxis, arg.begin() + static_cast<std::ptrdiff_t>(kFirstFftAxis + sorted));
  return make(op, {x}, arg);
}

}  // namespace

UOp fft(const UOp& x, std::int64_t sign, Extents axes) {
  return axes.empty() ? x : transform(Op::FFT, x, sign, axes, axes.size());
}
UOp rfft(const UOp& x, Extents axes) { return transform(Op::RFFT, x, kForwardFft, axes, axes.size() - 1); }
UOp irfft(const UOp& x, std::int64_t length, Extents axes) {
  return transform(Op::IRFFT, x, length, axes, axes.size() - 1);
}
double fft_work(const Node* n) {
  const Node* real = n->op == Op::RFFT ? n->src(0) : n;
  const bool pairs = n->op == Op::FFT;
  double bits = 0;
  for (const std::int64_t a : n->arg().subspan(kFirstFftAxis))
    bits += std::log2(static_cast<double>(std::max<std::int64_t>(real->shape()[at(a)], 2)));
  return static_cast<double>(real->size()) * bits / (pairs ? 1 : 2);
}

UOp symbol_like(const Node* n) { return symbol(n->dtype, n->shape()); }
UOp symbol_of_row(const Node* n) { return symbol(n->dtype, n->shape().subspan(1)); }

UOp make_scan(const ScanParts& s) {
  const auto append = [](std::vector<UOp>& to, const std::vector<UOp>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  std::vector<UOp> params{s.index ? s.index : symbol(DType::kInt64, {})}, outputs = s.next;
  append(params, s.carry_params);
  append(params, s.row_params);
  append(params, s.captured_params);
  append(outputs, s.outs);
  if (s.until) outputs.push_back(s.until);
  Labels labels;
  std::vector<UOp> extra, src{close_lambda(outputs, params, extra, &labels.places), s.steps};
  append(src, s.carry);
  append(src, s.xs);
  append(src, s.captured);
  append(src, extra);
  Dims arg{static_cast<std::int64_t>(s.carry.size()), static_cast<std::int64_t>(s.xs.size())};
  arg.push_back(s.until ? 1 : 0);
  arg.push_back(static_cast<std::int64_t>(s.method));
  arg.push_back(static_cast<std::int64_t>(s.reversible));
  while (arg.size() > 2 && arg.back() == 0) arg.pop_back();
  if (s.reversible == Reversible::Exact)
    for (const double r : s.range) arg.push_back(bits(r));
  UOp scan = make(Op::SCAN, std::span<const UOp>(src), arg);
  if (!labels.places.empty()) set_labels(scan.get(), std::move(labels));
  return scan;
}

ScanParts open_scan(const Node* n) {
  const ScanView scan(n);
  ScanParts s;
  s.index = symbol(DType::kInt64, {});
  s.steps = UOp::share(scan.steps());
  s.method = scan.method;
  s.reversible = scan.reversible;
  s.range = scan.range();
  std::vector<UOp> args{s.index};
  const auto open = [&](std::span<Node* const> values, std::vector<UOp>& own, std::vector<UOp>& params,
                        bool row) {
    for (Node* v : values) {
      own.push_back(UOp::share(v));
      params.push_back(row ? symbol_of_row(v) : symbol_like(v));
      args.push_back(params.back());
    }
  };
  open(scan.carry(), s.carry, s.carry_params, false);
  open(scan.xs(), s.xs, s.row_params, true);
  open(scan.captured(), s.captured, s.captured_params, false);
  std::vector<UOp> outputs = tinyphys::apply(scan.body(), args);
  if (scan.has_until) {
    s.until = outputs.back();
    outputs.pop_back();
  }
  const auto outs = outputs.begin() + static_cast<std::ptrdiff_t>(scan.n_carry);
  s.next.assign(outputs.begin(), outs);
  s.outs.assign(outs, outputs.end());
  return s;
}

ScanParts without_until(const ScanParts& parts) {
  ScanParts s = parts;
  s.until = UOp();
  const UOp done = symbol(DType::kBool, {});
  const auto choose = [&](const UOp& kept, const UOp& made) {
    return where(broadcast_to(done, made->shape()), kept, made);
  };
  for (std::size_t i = 0; i < s.next.size(); ++i) s.next[i] = choose(s.carry_params[i], s.next[i]);
  for (UOp& o : s.outs) o = choose(zeros_like(o), o);
  s.carry_params.push_back(done);
  s.carry.push_back(constant_bool(false));
  s.next.push_back(make(Op::OR, {done, parts.until}));
  return s;
}

}  // namespace tinyphys
