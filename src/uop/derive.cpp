#include "uop/derive.hpp"

#include <algorithm>
#include <string>

#include "tinyphys/error.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

[[noreturn]] void malformed(Op op, const std::string& why) {
  throw Error("uop", std::string(name(op)) + ": " + why, "", 0);
}
std::string describe(const Node* n) { return std::string(name(n->dtype)) + shape_text(n->shape()); }

void take_shape(const Node* n, Derived& out) { out.shape.assign(n->shape().begin(), n->shape().end()); }

void derive_movement(Op op, const Node* s, std::span<const std::int64_t> arg, Derived& out) {
  out.dtype = s->dtype;
  const auto shape = s->shape();
  const auto rank = static_cast<std::int64_t>(shape.size());
  switch (op) {
    case Op::RESHAPE: {
      std::int64_t n = 1;
      for (std::int64_t d : arg) {
        if (d < 0) malformed(op, "negative dim in " + shape_text(arg));
        n *= d;
      }
      if (n != s->size()) malformed(op, describe(s) + " to " + shape_text(arg));
      out.shape.assign(arg.begin(), arg.end());
      return;
    }
    case Op::PERMUTE: {
      std::vector<bool> seen(shape.size(), false);
      if (arg.size() != shape.size()) malformed(op, describe(s) + " by axes " + shape_text(arg));
      out.shape.clear();
      for (std::int64_t a : arg) {
        if (a < 0 || a >= rank || seen[static_cast<std::size_t>(a)])
          malformed(op, describe(s) + " by axes " + shape_text(arg));
        seen[static_cast<std::size_t>(a)] = true;
        out.shape.push_back(shape[static_cast<std::size_t>(a)]);
      }
      return;
    }
    case Op::EXPAND:
      if (arg.size() != shape.size()) malformed(op, describe(s) + " to " + shape_text(arg));
      for (std::size_t i = 0; i < shape.size(); ++i)
        if (shape[i] != arg[i] && shape[i] != 1) malformed(op, describe(s) + " to " + shape_text(arg));
      out.shape.assign(arg.begin(), arg.end());
      return;
    case Op::SLICE:
      if (arg.size() != 3 * shape.size()) malformed(op, "needs (start, stop, step) per axis");
      out.shape.clear();
      for (std::size_t i = 0; i < shape.size(); ++i) {
        const std::int64_t start = arg[3 * i], stop = arg[3 * i + 1], step = arg[3 * i + 2];
        if (step == 0) malformed(op, "step 0");
        const std::int64_t n =
            step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
        if (n > 0) {
          const std::int64_t last = start + (n - 1) * step;
          if (start < 0 || start >= shape[i] || last < 0 || last >= shape[i]) malformed(op, "out of range");
        }
        out.shape.push_back(std::max<std::int64_t>(n, 0));
      }
      return;
    case Op::PAD:
      if (arg.size() != 1 + 2 * shape.size()) malformed(op, "needs fill and (before, after) per axis");
      out.shape.clear();
      for (std::size_t i = 0; i < shape.size(); ++i) {
        if (arg[1 + 2 * i] < 0 || arg[2 + 2 * i] < 0) malformed(op, "negative padding");
        out.shape.push_back(arg[1 + 2 * i] + shape[i] + arg[2 + 2 * i]);
      }
      return;
    case Op::ROLL:
      if (arg.size() != 2 || arg[0] < 0 || arg[0] >= rank) malformed(op, "axis of " + describe(s));
      if (arg[1] < 0 || arg[1] >= std::max<std::int64_t>(shape[static_cast<std::size_t>(arg[0])], 1))
        malformed(op, "shift not normalised");
      take_shape(s, out);
      return;
    default: malformed(op, "not a movement op");
  }
}

void derive_cat(std::span<Node* const> src, std::span<const std::int64_t> arg, Derived& out) {
  if (src.empty() || arg.size() != 1) malformed(Op::CAT, "needs sources and an axis");
  const auto axis = static_cast<std::size_t>(arg[0]);
  if (axis >= src[0]->shape().size()) malformed(Op::CAT, "axis out of range");
  out.dtype = src[0]->dtype;
  take_shape(src[0], out);
  for (std::size_t k = 1; k < src.size(); ++k) {
    bool ok = src[k]->dtype == out.dtype && src[k]->shape().size() == out.shape.size();
    for (std::size_t i = 0; ok && i < out.shape.size(); ++i)
      ok = i == axis || src[k]->shape()[i] == out.shape[i];
    if (!ok) malformed(Op::CAT, describe(src[0]) + " and " + describe(src[k]));
    out.shape[axis] += src[k]->shape()[axis];
  }
}

void derive_matmul(const Node* a, const Node* b, Derived& out) {
  const auto x = a->shape(), y = b->shape();
  const bool ok = x.size() >= 2 && x.size() == y.size() && a->dtype == b->dtype &&
                  x[x.size() - 1] == y[y.size() - 2] && std::equal(x.begin(), x.end() - 2, y.begin());
  if (!ok) malformed(Op::MATMUL, describe(a) + " and " + describe(b));
  out.dtype = a->dtype;
  out.shape.assign(x.begin(), x.end() - 1);
  out.shape.push_back(y[y.size() - 1]);
}

// A transform: its axes stand after one arg; those of a real form leave out the trailing axis of 2.
void derive_fft(Op op, const Node* x, std::span<const std::int64_t> arg, Derived& out) {
  if (arg.size() <= kFirstFftAxis) malformed(op, "needs axes");
  const auto axes = arg.subspan(kFirstFftAxis);
  const auto from = x->shape();
  const bool reads_pairs = op != Op::RFFT;
  const auto rank = static_cast<std::int64_t>(from.size()) - (reads_pairs ? 1 : 0);
  if (!is_float(x->dtype) || (reads_pairs && (from.empty() || from.back() != 2)))
    malformed(op, describe(x) + ", which is not complex");
  for (std::size_t i = 0; i < axes.size(); ++i) {
    // FFT: all ascending; the others: all but the last, which none repeats.
    const bool in_order = i == 0 || op == Op::FFT || i + 1 < axes.size();
    if (axes[i] < 0 || axes[i] >= rank || (in_order && i > 0 && axes[i] <= axes[i - 1]) ||
        (i + 1 < axes.size() && axes[i] == axes.back()))
      malformed(op, describe(x) + " along axes " + shape_text(axes));
    if (from[static_cast<std::size_t>(axes[i])] < 1)
      malformed(op, describe(x) + " along an axis of length 0");
  }
  take_shape(x, out);
  out.dtype = x->dtype;
  const auto last = static_cast<std::size_t>(axes.back());
  switch (op) {
    case Op::FFT:
      if (arg[0] != kForwardFft && arg[0] != kInverseFft) malformed(op, "sign " + std::to_string(arg[0]));
      return;
    case Op::RFFT:
      if (arg[0] != kForwardFft) malformed(op, "sign " + std::to_string(arg[0]));
      out.shape[last] = from[last] / 2 + 1;
      out.shape.push_back(2);
      return;
    default:
      if (arg[0] < 1 || from[last] != arg[0] / 2 + 1)
        malformed(op, describe(x) + " to length " + std::to_string(arg[0]));
      out.shape[last] = arg[0];
      out.shape.pop_back();
  }
}

void derive_get(const Node* whole, std::int64_t i, Derived& out) {
  const auto k = static_cast<std::size_t>(i);
  auto as = [&](const Node* n) {
    out.dtype = n->dtype;
    take_shape(n, out);
  };
  switch (whole->op) {
    case Op::SCAN: {
      const ScanView s(whole);
      if (k < s.n_carry) return as(s.carry()[k]);
      if (k >= s.n_carry + s.n_out) break;
      if (!is_const(s.steps())) malformed(Op::GET, "stacked outputs need a constant number of steps");
      as(s.body()->src(k));
      out.shape.insert(out.shape.begin(), const_int(s.steps()));
      return;
    }
    case Op::SCAN_VJP:
      if (2 + k < whole->n_src) return as(whole->src(2 + k));
      break;
    case Op::EVOLVE:
      if (k < 2) return as(whole->src(3 + k));
      break;
    case Op::EVOLVE_VJP:
      if (k + 3 < whole->n_src) return as(whole->src(1 + k));
      break;
    case Op::PROPAGATE:
      if (i < whole->arg(1)) return as(whole->src(3 + k));
      break;
    case Op::PROPAGATE_VJP:
      if (k < PropagateView(whole).finish()->n_src) return as(PropagateView(whole).finish()->src(k));
      break;
    case Op::LAMBDA:
      if (k < whole->n_src) return as(whole->src(k));
      break;
    case Op::LOOP:
      if (i < whole->arg(1)) return as(whole->src(2 + k));
      break;
    default: break;
  }
  malformed(Op::GET, "no output " + std::to_string(i) + " of " + std::string(name(whole->op)));
}

void check_scan(Op op, std::span<Node* const> src, std::span<const std::int64_t> arg) {
  if (src.size() < 2 || arg.size() < 2 ||
      (arg.size() > 5 && arg.size() != 5 + static_cast<std::size_t>(arg[0])) || src[0]->op != Op::LAMBDA)
    malformed(op, "needs a body and steps");
  const Node* body = src[0];
  const std::int64_t inputs = body->arg(0) - 1;
  if (inputs < arg[0] + arg[1] || static_cast<std::int64_t>(src.size()) < 2 + inputs ||
      body->n_src < arg[0] + (arg.size() > 2 ? arg[2] : 0))
    malformed(op, "body takes " + std::to_string(inputs) + " inputs");
  for (std::size_t i = 0; i < static_cast<std::size_t>(arg[0]); ++i)
    if (body->src(i)->dtype != src[2 + i]->dtype || !same_shape(body->src(i), src[2 + i]))
      malformed(op, "carry " + std::to_string(i) + " enters as " + describe(src[2 + i]) + " and leaves as " +
                        describe(body->src(i)));
}

}  // namespace

void derive(Op op, std::span<Node* const> src, std::span<const std::int64_t> arg, Derived& out) {
  const OpTraits& t = traits(op);
  if (t.arity >= 0 && static_cast<std::size_t>(t.arity) != src.size())
    malformed(op, std::to_string(src.size()) + " sources");
  out.dtype = DType::kVoid;
  out.shape.clear();
  switch (t.cls) {
    case OpClass::kUnary:
      out.dtype = op == Op::CAST ? static_cast<DType>(arg[0]) : src[0]->dtype;
      if (op == Op::NOT && src[0]->dtype != DType::kBool) malformed(op, describe(src[0]));
      if (op == Op::CONJ && !is_complex(src[0]->dtype)) malformed(op, describe(src[0]));
      if (op == Op::COPY && (arg.size() != 1 || arg[0] < 0 || arg[0] > 7)) malformed(op, "device");
      if (op == Op::POWI && (arg.size() != 1 || arg[0] < -64 || arg[0] > 64)) malformed(op, "exponent");
      take_shape(src[0], out);
      return;
    case OpClass::kBinary:
    case OpClass::kCompare:
      if (src[0]->dtype != src[1]->dtype || !same_shape(src[0], src[1]))
        malformed(op, describe(src[0]) + " and " + describe(src[1]));
      if (op == Op::PHILOX && (src[0]->dtype != DType::kInt64 || arg.size() != 1 || arg[0] <= 0))
        malformed(op, describe(src[0]));
      out.dtype = t.cls == OpClass::kCompare ? DType::kBool : src[0]->dtype;
      take_shape(src[0], out);
      return;
    case OpClass::kTernary: {
      const Node *a = src[0], *b = src[1], *c = src[2];
      const bool ok = same_shape(a, b) && same_shape(b, c) && b->dtype == c->dtype &&
                      (op == Op::WHERE ? a->dtype == DType::kBool : a->dtype == b->dtype);
      if (!ok) malformed(op, describe(a) + ", " + describe(b) + " and " + describe(c));
      out.dtype = b->dtype;
      take_shape(b, out);
      return;
    }
    case OpClass::kMovement:
      if (op == Op::CAT) return derive_cat(src, arg, out);
      return derive_movement(op, src[0], arg, out);
    case OpClass::kReduce: {
      out.dtype = src[0]->dtype;
      std::int64_t before = -1;
      for (std::int64_t a : arg.subspan(1)) {
        if (a <= before || a >= static_cast<std::int64_t>(src[0]->shape().size())) malformed(op, "axes");
        before = a;
      }
      for (std::size_t i = 0, k = 1; i < src[0]->shape().size(); ++i) {
        if (k < arg.size() && arg[k] == static_cast<std::int64_t>(i))
          ++k;
        else
          out.shape.push_back(src[0]->shape()[i]);
      }
      return;
    }
    default: break;
  }
  switch (op) {
    case Op::CONST: out.dtype = static_cast<DType>(arg[0]); return;
    case Op::BUFFER:
    case Op::SYM:
      out.dtype = static_cast<DType>(arg[1]);
      out.shape.assign(arg.begin() + 2, arg.end());
      return;
    case Op::PARAM:
      out.dtype = static_cast<DType>(arg[1]);
      out.shape.assign(arg.begin() + 3, arg.end());
      return;
    case Op::IOTA:
      out.dtype = DType::kInt64;
      out.shape.assign(1, arg[0]);
      return;
    case Op::CUMSUM:
      if (arg[0] < 0 || static_cast<std::size_t>(arg[0]) >= src[0]->shape().size()) malformed(op, "axis");
      out.dtype = src[0]->dtype;
      take_shape(src[0], out);
      return;
    case Op::AS_REAL:
      if (!is_complex(src[0]->dtype)) malformed(op, describe(src[0]));
      out.dtype = real_dtype(src[0]->dtype);
      take_shape(src[0], out);
      out.shape.push_back(2);
      return;
    case Op::AS_COMPLEX: {
      const auto shape = src[0]->shape();
      if (!is_float(src[0]->dtype) || shape.empty() || shape.back() != 2) malformed(op, describe(src[0]));
      out.dtype = complex_dtype(src[0]->dtype);
      out.shape.assign(shape.begin(), shape.end() - 1);
      return;
    }
    case Op::MATMUL: return derive_matmul(src[0], src[1], out);
    case Op::FFT:
    case Op::RFFT:
    case Op::IRFFT: return derive_fft(op, src[0], arg, out);
    case Op::GATHER: {
      const auto x = src[0]->shape();
      const auto axis = static_cast<std::size_t>(arg[0]);
      if (axis >= x.size() || !is_integer(src[1]->dtype))
        malformed(op, describe(src[0]) + ", " + describe(src[1]));
      out.dtype = src[0]->dtype;
      out.shape.assign(x.begin(), x.begin() + arg[0]);
      out.shape.insert(out.shape.end(), src[1]->shape().begin(), src[1]->shape().end());
      out.shape.insert(out.shape.end(), x.begin() + arg[0] + 1, x.end());
      return;
    }
    case Op::SCATTER_ADD:
      if (src[0]->dtype != src[2]->dtype || !is_integer(src[1]->dtype)) malformed(op, "dtypes");
      out.dtype = src[0]->dtype;
      take_shape(src[0], out);
      return;
    case Op::SCAN:
    case Op::SCAN_VJP: return check_scan(op, src, arg);
    case Op::EVOLVE:
      if (src.size() < 5 || src[0]->op != Op::LAMBDA || arg.size() < 2)
        malformed(op, "needs H, dt, steps, q, p");
      return;
    case Op::EVOLVE_VJP:
      if (src.size() < 7 || src[0]->op != Op::LAMBDA || arg.size() < 2)
        malformed(op, "needs the sources of EVOLVE and the cotangents of q and p");
      return;
    case Op::PROPAGATE:
      if (src.size() < 3 || src[0]->op != Op::LAMBDA || src[1]->op != Op::LAMBDA || arg.size() < 2 ||
          arg[1] < 1 || static_cast<std::int64_t>(src.size()) < 3 + arg[1])
        malformed(op, "needs loop, map, steps, state");
      return;
    case Op::PROPAGATE_VJP:
      if (arg.size() < 3 || arg[1] < 1 || static_cast<std::int64_t>(src.size()) < 5 + 2 * arg[1] ||
          !std::all_of(src.begin(), src.begin() + 4, [](const Node* n) { return n->op == Op::LAMBDA; }))
        malformed(op, "needs loop, map, finish, forward, steps, state, captured, cotangents");
      return;
    case Op::CHECK:
      out.dtype = src[0]->dtype;
      take_shape(src[0], out);
      return;
    case Op::LAMBDA:
    case Op::SINK: return;
    case Op::GET: return derive_get(src[0], arg[0], out);
    case Op::RANGE: out.dtype = DType::kInt64; return;
    case Op::LOAD: out.dtype = src[0]->dtype; return;
    case Op::STORE: return;
    case Op::ACCUMULATE: out.dtype = src[0]->dtype; return;
    case Op::STATE: out.dtype = static_cast<DType>(arg[2]); return;
    case Op::LOOP: return;
    default: malformed(op, "not derived");
  }
}

}  // namespace tinyphys
