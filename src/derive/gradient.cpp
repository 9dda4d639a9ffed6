#include "derive/gradient.hpp"

#include "derive/gradient_rules.hpp"
#include "derive/jvp.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// The transpose of SLICE: places what was taken, zeros between and around. Null when nothing was taken.
UOp unslice(const Node* n, UOp ct) {
  const auto from = n->src(0)->shape();
  const std::size_t rank = from.size();
  Dims flips, spread, padding, joined, cut, around;
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t m = n->shape()[d];
    if (m == 0) return {};
    std::int64_t start = n->arg(3 * d), step = n->arg(3 * d + 2);
    if (step < 0) {
      flips.insert(flips.end(), {m - 1, -1, -1});
      start += (m - 1) * step;
      step = -step;
    } else {
      flips.insert(flips.end(), {0, m, 1});
    }
    if (m == 1) step = 1;  // the step was never taken
    const std::int64_t extent = (m - 1) * step + 1;
    spread.insert(spread.end(), {m, 1});
    padding.insert(padding.end(), {0, 0, 0, step - 1});
    joined.push_back(m * step);
    cut.insert(cut.end(), {0, extent, 1});
    around.insert(around.end(), {start, from[d] - start - extent});
  }
  ct = slice(ct, flips);
  if (joined != shape_of(n)) ct = slice(reshape(pad_zeros(reshape(ct, spread), padding), joined), cut);
  return pad_zeros(ct, around);
}

// Cotangents of all nodes between outputs and wrt, taken from the outputs down.
class Reverse {
 public:
  explicit Reverse(std::span<const UOp> wrt) : wrt_(wrt) {
    for (const UOp& w : wrt) is_wrt_.insert(w.get(), 1);
  }

  void run(std::span<const UOp> outputs, std::span<const UOp> cotangents) {
    std::vector<Node*> roots;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (cotangents[i] && has_derivative(outputs[i]->dtype)) roots.push_back(outputs[i].get());
    const std::uint8_t common = common_flags(wrt_);
    // Of what lies below the only one nothing is asked, and a value that is trained has a long past.
    const Node* only = wrt_.size() == 1 ? wrt_[0].get() : nullptr;
    const auto order = toposort(roots, [&](const Node* n) { return n == only || !may_depend(n, common); });
    for (Node* n : order) {
      bool leads = is_wrt_.contains(n);
      for (std::size_t i = 0; i < n->n_src && !leads; ++i)
        leads = leads_.contains(n->src(i)) && carries_derivative(n, i);
      if (leads) leads_.insert(n, 1);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (cotangents[i]) give(outputs[i].get(), cotangents[i]);
    for (std::size_t i = order.size(); i-- > 0;) {
      Node* n = order[i];
      if (!leads_.contains(n)) continue;
      const std::uint32_t at = n->location.load(std::memory_order_relaxed);
      if (at == 0) {
        visit(n);
      } else {
        LocationScope scope(at);  // a derivative carries the line of what it is the derivative of
        visit(n);
      }
    }
  }

  UOp cotangent(const Node* n) const {
    const UOp* c = cotangents_.find(n);
    return c ? *c : UOp();
  }

 private:
  // A later call adds to the right: the order of a sum follows the order of the walk.
  void give(Node* to, const UOp& ct) {
    if (!ct || !leads_.contains(to)) return;
    UOp& sum = cotangents_[to];
    sum = sum ? add(sum, ct) : ct;
  }

  void visit(Node* n) {
    if (n->dtype == DType::kVoid) {
      if (auto* cts = of_outputs_.find(n)) {
        const std::vector<UOp> taken = std::move(*cts);
        whole(n, taken);
      }
      return;
    }
    UOp* slot = cotangents_.find(n);
    if (!slot || !*slot) return;
    const UOp ct = *slot;
    if (!is_wrt_.contains(n)) *slot = UOp();
    if (n->op == Op::GET)
      get_output(n, ct);
    else if (n->op == Op::MUL &&
             n->src(0) == n->src(1))  // (2 t) x for t x + t x: the same bits, one operation less
      give(n->src(0), times_partial(n, 0, scaled(ct, 2.0)));
    else if (is_elementwise(n->op))
      for (std::size_t i = 0; i < n->n_src; ++i) {
        if (leads_.contains(n->src(i)) && carries_derivative(n, i)) give(n->src(i), times_partial(n, i, ct));
      }
    else
      other(n, ct);
  }

  void get_output(Node* n, const UOp& ct) {
    auto& cts = of_outputs_[n->src(0)];
    if (cts.empty()) cts.resize(output_count(n->src(0)));
    UOp& sum = cts[static_cast<std::size_t>(n->arg(0))];
    sum = sum ? add(sum, ct) : ct;
  }

  // Movement, reductions and products.
  void other(Node* n, const UOp& ct) {
    if (n->n_src == 0) return;
    Node* x = n->src(0);
    switch (n->op) {
      case Op::RESHAPE: return give(x, reshape(ct, x->shape()));
      case Op::AS_REAL: return give(x, conj(as_complex(ct)));
      case Op::AS_COMPLEX: return give(x, as_real(conj(ct)));
      // The value itself, where it holds: what it checks is no function of it to vary, but the way back must not outlive it.
      case Op::CHECK: return give(x, make(Op::CHECK, {ct, UOp::share(n->src(1))}, n->arg()));
      case Op::EXPAND: return give(x, sum_to_shape(ct, x->shape()));
      case Op::SLICE: return give(x, unslice(n, ct));
      case Op::PERMUTE: {
        Dims inverse(n->n_arg);
        for (std::size_t i = 0; i < inverse.size(); ++i)
          inverse[static_cast<std::size_t>(n->arg(i))] = static_cast<std::int64_t>(i);
        return give(x, permute(ct, inverse));
      }
      case Op::PAD: {
        Dims inside;
        for (std::size_t d = 0; d < x->shape().size(); ++d)
          inside.insert(inside.end(), {n->arg(1 + 2 * d), n->arg(1 + 2 * d) + x->shape()[d], 1});
        return give(x, slice(ct, inside));
      }
      case Op::ROLL: {
        const std::int64_t extent = x->shape()[static_cast<std::size_t>(n->arg(0))], shift = n->arg(1);
        return give(x, shift == 0 ? ct : make(Op::ROLL, {ct}, {n->arg(0), extent - shift}));
      }
      case Op::CAT: {
        std::int64_t start = 0;
        for (Node* part : n->src()) {
          const std::int64_t extent = part->shape()[static_cast<std::size_t>(n->arg(0))];
          if (leads_.contains(part)) give(part, slice_axis(ct, n->arg(0), start, start + extent));
          start += extent;
        }
        return;
      }
      case Op::REDUCE: return reduction(n, ct);
      case Op::CUMSUM: {
        const UOp back = flip(ct, n->arg(0));
        return give(x, flip(make(Op::CUMSUM, {back}, {n->arg(0)}), n->arg(0)));
      }
      case Op::MATMUL: {
        const UOp a = UOp::share(x), b = UOp::share(n->src(1));
        if (leads_.contains(a.get())) give(a.get(), matmul(ct, transpose_last(b)));
        if (leads_.contains(b.get())) give(b.get(), matmul(transpose_last(a), ct));
        return;
      }
      case Op::FFT:
      case Op::RFFT:
      case Op::IRFFT: return give(x, fft_adjoint(n, ct));
      case Op::GATHER:
        return give(
            x, make(Op::SCATTER_ADD, {zeros_like(UOp::share(x)), UOp::share(n->src(1)), ct}, {n->arg(0)}));
      case Op::SCATTER_ADD:
        give(x, ct);
        if (leads_.contains(n->src(2)))
          give(n->src(2), make(Op::GATHER, {ct, UOp::share(n->src(1))}, {n->arg(0)}));
        return;
      default:
        if (n->n_src > 0) throw Error("gradient", "no rule for " + std::string(name(n->op)), "", 0);
    }
  }

  void reduction(Node* n, const UOp& ct) {
    const UOp x = UOp::share(n->src(0));
    Dims kept = shape_of(x.get());
    for (std::int64_t a : n->arg().subspan(1)) kept[static_cast<std::size_t>(a)] = 1;
    auto spread = [&](const UOp& v) { return broadcast_to(reshape(v, kept), x->shape()); };
    switch (static_cast<Reduction>(n->arg(0))) {
      case Reduction::kSum: return give(x.get(), spread(ct));
      case Reduction::kMax:
      case Reduction::kMin: return give(x.get(), mul(spread(ct), extremum_weights(n)));
      case Reduction::kProd: {
        const auto back = [](const UOp& tree, const UOp& of, const UOp& along) {
          return vjp(std::span(&tree, 1), std::span(&along, 1), std::span(&of, 1)).front();
        };
        return give(x.get(), product_derivative(n, ct, back));
      }
    }
  }

  void whole(Node* n, const std::vector<UOp>& cts) {
    switch (n->op) {
      case Op::SCAN: {
        const ScanView scan(n);
        if (!scan.has_until) return pull_back(UOp::share(n), cts);
        std::vector<UOp> with_flag = cts;
        with_flag.insert(with_flag.begin() + static_cast<std::ptrdiff_t>(scan.n_carry), UOp());
        return pull_back(make_scan(without_until(open_scan(n))), with_flag);
      }
      case Op::EVOLVE: return pull_back(UOp::share(n), cts);
      case Op::SCAN_VJP:
      case Op::EVOLVE_VJP: return derivative_call(VjpCall(n), cts);
      default: throw Error("gradient", "no rule for " + std::string(name(n->op)), "", 0);
    }
  }

  void pull_back(const UOp& n, const std::vector<UOp>& cts) {
    const UOp pulled = vjp_node(n, cts);
    const std::size_t first = n->op == Op::SCAN ? 2 : 1;
    for (std::size_t i = first; i < n->n_src; ++i)
      if (has_derivative(n->src(i)->dtype) && leads_.contains(n->src(i)))
        give(n->src(i), get(pulled, static_cast<std::int64_t>(i - first)));
  }

  // Fresh symbols stand for the inputs while the rule is built: two inputs may be one node.
  void derivative_call(const VjpCall& call, const std::vector<UOp>& cts) {
    NodeMap<UOp> actual;
    std::vector<UOp> inputs, wrt, tangents;
    std::vector<std::size_t> wrt_at;
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      const UOp& x = call.inputs[i];
      if (!has_derivative(x->dtype)) {
        inputs.push_back(x);
        continue;
      }
      inputs.push_back(symbol(x->dtype, x->shape()));
      actual.insert(inputs.back().get(), x);
      wrt.push_back(inputs.back());
      wrt_at.push_back(i);
      tangents.emplace_back();
      if (cts[i]) {
        tangents.back() = symbol(x->dtype, x->shape());
        actual.insert(tangents.back().get(), cts[i]);
      }
    }
    const std::vector<UOp> moved = jvp(outputs_of(call.primal(inputs)), wrt, tangents);
    std::vector<UOp> results = vjp(moved, call.cotangents, wrt);
    results.insert(results.end(), moved.begin(), moved.end());
    std::vector<UOp> present;
    for (const UOp& r : results)
      if (r) present.push_back(r);
    present = substitute(present, [&](Node* s) {
      const UOp* v = actual.find(s);
      return v ? *v : UOp();
    });
    std::size_t next = 0;
    for (UOp& r : results)
      if (r) r = present[next++];
    for (std::size_t k = 0; k < wrt.size(); ++k) give(call.inputs[wrt_at[k]].get(), results[k]);
    for (std::size_t j = 0; j < moved.size(); ++j) give(call.cotangents[j].get(), results[wrt.size() + j]);
  }

  std::span<const UOp> wrt_;
  NodeMap<char> is_wrt_, leads_;
  NodeMap<UOp> cotangents_;
  NodeMap<std::vector<UOp>> of_outputs_;
};

}  // namespace

std::vector<UOp> vjp(std::span<const UOp> outputs, std::span<const UOp> cotangents,
                     std::span<const UOp> wrt) {
  Reverse reverse(wrt);
  std::vector<UOp> known_outputs, known;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i] && cotangents[i]) {
      known_outputs.push_back(outputs[i]);
      known.push_back(cotangents[i]);
    }
  reverse.run(known_outputs, known);
  std::vector<UOp> out;
  for (const UOp& w : wrt) out.push_back(reverse.cotangent(w.get()));
  return out;
}

std::vector<UOp> gradient(const UOp& scalar, std::span<const UOp> wrt) {
  const UOp one = ones_like(scalar);
  std::vector<UOp> out = vjp(std::span(&scalar, 1), std::span(&one, 1), wrt);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (!out[i]) out[i] = zeros_like(wrt[i]);
  return out;
}

}  // namespace tinyphys
