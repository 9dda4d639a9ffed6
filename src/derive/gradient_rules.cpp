#include "derive/gradient_rules.hpp"

#include <algorithm>
#include <numbers>

#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// 1 - x^2 and the like.
UOp one_plus(const UOp& x) { return offset(x, 1); }
UOp one_minus(const UOp& x) { return sub(ones_like(x), x); }

// JAX's balanced rule: all of t to the operand that is the result, half to each where they are equal.
UOp tie_weight(const UOp& mine, const UOp& other, const UOp& result) {
  const UOp tie = where(compare(Op::EQ, mine, other), full_like(mine, 0.5), ones_like(mine));
  return where(compare(Op::EQ, mine, result), tie, zeros_like(mine));
}

UOp unary_partial(Node* n, const UOp& x, const UOp& out, const UOp& t) {
  switch (n->op) {
    case Op::NEG: return neg(t);
    case Op::ABS: return mul(t, unary(Op::SIGN, x));
    case Op::SQRT: return mul(t, scaled(div(ones_like(out), out), 0.5));
    case Op::EXP: return mul(t, out);
    case Op::EXPM1: return mul(t, one_plus(out));
    case Op::LOG: return div(t, x);
    case Op::LOG1P: return div(t, one_plus(x));
    case Op::SIN: return mul(t, unary(Op::COS, x));
    case Op::COS: return neg(mul(t, unary(Op::SIN, x)));
    case Op::TAN: return mul(t, one_plus(powi(out, 2)));
    case Op::ASIN: return div(t, unary(Op::SQRT, one_minus(powi(x, 2))));
    case Op::ACOS: return neg(div(t, unary(Op::SQRT, one_minus(powi(x, 2)))));
    case Op::ATAN: return div(t, one_plus(powi(x, 2)));
    case Op::SINH: return mul(t, unary(Op::COSH, x));
    case Op::COSH: return mul(t, unary(Op::SINH, x));
    case Op::TANH: return mul(t, one_minus(powi(out, 2)));
    case Op::ERF: return mul(t, scaled(unary(Op::EXP, neg(powi(x, 2))), 2 * std::numbers::inv_sqrtpi));
    case Op::CAST:  // forward: t is x's; reverse: it is n's, and what a real number gets is real
      if (t->dtype == x->dtype) return cast(t, n->dtype);
      return cast(is_complex(t->dtype) && !is_complex(x->dtype) ? real_part(t) : t, x->dtype);
    case Op::CONJ: return conj(t);
    case Op::COPY: return t->device() == 0 ? t : copy_to(t, x->device());
    case Op::POWI: {
      const std::int64_t k = n->arg(0);
      constexpr std::int64_t kLowest = -64;  // of the op
      if (k == 0) return {};
      if (k == 1) return t;
      const UOp power = k == kLowest ? div(out, x) : powi(x, k - 1);
      return mul(t, scaled(power, static_cast<double>(k)));
    }
    default: return {};
  }
}

// x^y: d/dx = y x^(y-1), 0 where y = 0; d/dy = log(x) x^y with the log of 0 taken as 0 (JAX).
UOp pow_partial(std::size_t i, const UOp& x, const UOp& y, const UOp& out, const UOp& t) {
  const UOp zero = zeros_like(x), one = ones_like(x);
  if (i == 0) {
    const UOp is_zero = compare(Op::EQ, y, zero);
    const UOp slope = mul(y, make(Op::POW, {x, where(is_zero, one, sub(y, one))}));
    return mul(t, where(is_zero, zero, slope));
  }
  const UOp base = where(compare(Op::EQ, x, zero), one, x);
  return mul(t, mul(unary(Op::LOG, base), out));
}

UOp binary_partial(Node* n, std::size_t i, const UOp& x, const UOp& y, const UOp& out, const UOp& t) {
  switch (n->op) {
    case Op::ADD: return t;
    case Op::SUB: return i == 0 ? t : neg(t);
    case Op::MUL: return mul(t, i == 0 ? y : x);
    case Op::DIV:
      if (i == 0) return div(t, y);
      // 1 / y of a root is in the range of the dtype, and it is what the root's own derivative takes: one division in all.
      if (y->op == Op::SQRT) {
        const UOp inverse = div(ones_like(y), y);
        return neg(mul(mul(mul(t, x), inverse), inverse));
      }
      return neg(div(mul(t, out), y));
    // x mod y = x - floor(x / y) y
    case Op::MOD: return i == 0 ? t : neg(mul(t, unary(Op::FLOOR, div(x, y))));
    case Op::POW: return pow_partial(i, x, y, out, t);
    case Op::ATAN2: {
      const UOp r2 = add(powi(x, 2), powi(y, 2));
      return i == 0 ? mul(t, div(y, r2)) : neg(mul(t, div(x, r2)));
    }
    case Op::MAX:
    case Op::MIN: return mul(t, i == 0 ? tie_weight(x, y, out) : tie_weight(y, x, out));
    default: return {};
  }
}

UOp product_tree(Node* reduce, const UOp& x) {
  const auto axes = reduce->arg().subspan(1);
  Dims order, shape = shape_of(reduce);
  std::int64_t n = 1;
  for (std::int64_t d = 0; d < static_cast<std::int64_t>(x->shape().size()); ++d)
    if (std::find(axes.begin(), axes.end(), d) == axes.end()) order.push_back(d);
  for (std::int64_t a : axes) {
    order.push_back(a);
    n *= x->shape()[static_cast<std::size_t>(a)];
  }
  if (n == 0) return full_like(UOp::share(reduce), 1);
  const auto last = static_cast<std::int64_t>(shape.size());
  shape.push_back(n);
  UOp v = reshape(permute(x, order), shape);
  while (n > 1) {
    const std::int64_t half = n / 2;
    UOp pairs = mul(slice_axis(v, last, 0, half), slice_axis(v, last, half, 2 * half));
    if (n % 2) pairs = cat(std::vector<UOp>{pairs, slice_axis(v, last, n - 1, n)}, last);
    v = pairs;
    n = half + n % 2;
  }
  return reshape(v, reduce->shape());
}

}  // namespace

bool carries_derivative(const Node* n, std::size_t i) {
  if (n->op == Op::GET) return has_derivative(n->dtype);
  if (!has_derivative(n->src(i)->dtype)) return false;
  if (n->dtype != DType::kVoid && !has_derivative(n->dtype)) return false;
  return n->op != Op::FLOOR && n->op != Op::CEIL && n->op != Op::SIGN;
}

UOp times_partial(Node* n, std::size_t i, const UOp& t) {
  const UOp out = UOp::share(n), x = out.src(0);
  switch (traits(n->op).cls) {
    case OpClass::kUnary: return unary_partial(n, x, out, t);
    case OpClass::kBinary: return binary_partial(n, i, x, out.src(1), out, t);
    case OpClass::kTernary:
      if (n->op == Op::WHERE) return i == 1 ? where(x, t, zeros_like(t)) : where(x, zeros_like(t), t);
      return i == 2 ? t : mul(t, out.src(1 - i));  // FMA
    default: return {};
  }
}

UOp product_derivative(Node* reduce, const UOp& by,
                       FunctionRef<UOp(const UOp& tree, const UOp& x, const UOp& along)> of) {
  const UOp x = symbol_like(reduce->src(0)), along = symbol_like(by.get());
  const UOp value = of(product_tree(reduce, x), x, along);
  if (!value) return {};
  return substitute(value, [&](Node* n) {
    return n == x.get() ? UOp::share(reduce->src(0)) : n == along.get() ? by : UOp();
  });
}

UOp extremum_weights(Node* reduce) {
  const UOp x = UOp::share(reduce->src(0));
  const auto axes = reduce->arg().subspan(1);
  Dims kept = shape_of(x.get());
  for (std::int64_t a : axes) kept[static_cast<std::size_t>(a)] = 1;
  auto spread = [&](const UOp& v) { return broadcast_to(reshape(v, kept), x->shape()); };
  const UOp mask = cast(compare(Op::EQ, x, spread(UOp::share(reduce))), x->dtype);
  return div(mask, spread(sum(mask, axes)));
}

std::size_t output_count(const Node* whole) {
  switch (whole->op) {
    case Op::SCAN: return ScanView(whole).n_carry + ScanView(whole).n_out;
    case Op::EVOLVE: return 2;
    case Op::PROPAGATE: return PropagateView(whole).n_state;
    case Op::PROPAGATE_VJP: return PropagateView(whole).finish()->n_src;
    case Op::SCAN_VJP: return static_cast<std::size_t>(whole->src(0)->arg(0)) - 1;
    case Op::EVOLVE_VJP: return whole->n_src - 3;
    default: throw Error("uop", std::string(name(whole->op)) + " has no outputs to count", "", 0);
  }
}

VjpCall::VjpCall(Node* vjp_node) : node(vjp_node), first(vjp_node->op == Op::SCAN_VJP ? 2 : 1) {
  const std::size_t n = output_count(node);
  for (std::size_t i = first; i < node->n_src; ++i)
    (i < first + n ? inputs : cotangents).push_back(UOp::share(node->src(i)));
}
UOp VjpCall::primal(const std::vector<UOp>& new_inputs) const {
  std::vector<Node*> src(node->src().begin(), node->src().begin() + static_cast<std::ptrdiff_t>(first));
  for (const UOp& x : new_inputs) src.push_back(x.get());
  return make(node->op == Op::SCAN_VJP ? Op::SCAN : Op::EVOLVE, std::span<Node* const>(src), node->arg());
}

UOp primal_of(Node* whole) {
  if (whole->op != Op::SCAN_VJP && whole->op != Op::EVOLVE_VJP) return UOp::share(whole);
  const VjpCall call(whole);
  return call.primal(call.inputs);
}

std::vector<UOp> outputs_of(const UOp& whole) {
  std::vector<UOp> out;
  for (std::size_t i = 0; i < output_count(whole.get()); ++i)
    out.push_back(get(whole, static_cast<std::int64_t>(i)));
  return out;
}

UOp vjp_node(const UOp& whole, std::vector<UOp> cotangents) {
  const std::vector<UOp> outputs = outputs_of(whole);
  std::vector<Node*> src(whole->src().begin(), whole->src().end());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!cotangents[i]) cotangents[i] = zeros_like(outputs[i]);
    src.push_back(cotangents[i].get());
  }
  const UOp back =
      make(whole->op == Op::SCAN ? Op::SCAN_VJP : Op::EVOLVE_VJP, std::span<Node* const>(src), whole->arg());
  if (Labels labels = labels_of(whole.get()); labels.any()) set_labels(back.get(), std::move(labels));
  return back;
}

UOp fft_adjoint(const Node* n, const UOp& ct) {
  const auto axes = n->arg().subspan(kFirstFftAxis);
  if (n->op == Op::FFT) return fft(ct, -n->arg(0), axes);
  // What stands for itself and its conjugate in the half that is kept counts twice there.
  const bool forward = n->op == Op::RFFT;
  const Node* half = forward ? n : n->src(0);
  const auto last = static_cast<std::size_t>(axes.back());
  const std::int64_t length = forward ? n->src(0)->shape()[last] : n->shape()[last],
                     kept = half->shape()[last];
  const Dims line{kept};
  const UOp k = iota(kept);
  UOp alone = compare(Op::EQ, k, full(DType::kInt64, line, 0));
  if (length % 2 == 0)
    alone =
        make(Op::OR, {alone, compare(Op::EQ, k, full(DType::kInt64, line, static_cast<double>(length / 2)))});
  const UOp weight = where(alone, full(ct->dtype, line, 1), full(ct->dtype, line, forward ? 0.5 : 2));
  Dims aligned(half->shape().size(), 1);
  aligned[last] = kept;
  const UOp weights = broadcast_to(reshape(weight, aligned), half->shape());
  if (forward) return irfft(mul(ct, weights), length, axes);
  return mul(rfft(ct, axes), weights);
}

std::uint8_t common_flags(std::span<const UOp> leaves) {
  std::uint8_t common = Node::kHasSym | Node::kHasBuffer | Node::kHasParam;
  for (const UOp& l : leaves) common &= l->flags;
  return leaves.empty() ? 0 : common;
}

}  // namespace tinyphys
