#include "derive/vmap.hpp"

#include "derive/gradient.hpp"
#include "derive/gradient_rules.hpp"
#include "derive/lower_evolve.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

UOp symbol_of_batch(const Node* n, std::int64_t batch) {
  Dims shape = shape_of(n);
  shape.insert(shape.begin(), batch);
  return symbol(n->dtype, shape);
}

// The batched form of each source of a node, null where it is the same for all examples.
using Batched = std::vector<UOp>;

class Batch {
 public:
  std::vector<UOp> run(std::span<const UOp> outputs, std::span<const UOp> inputs,
                       std::span<const UOp> values) {
    if (inputs.empty()) return std::vector<UOp>(outputs.size());
    batch_ = values.front()->shape()[0];
    for (std::size_t i = 0; i < inputs.size(); ++i) values_.insert(inputs[i].get(), values[i]);
    std::vector<Node*> roots;
    for (const UOp& o : outputs) roots.push_back(o.get());
    const std::uint8_t common = common_flags(inputs);
    const auto order =
        toposort(roots, [&](const Node* n) { return values_.contains(n) || !may_depend(n, common); });
    for (Node* n : order)
      if (n->op == Op::GET) used_[n->src(0)].push_back(static_cast<std::size_t>(n->arg(0)));
    for (Node* n : order) {
      if (values_.contains(n) || !depends(n)) continue;
      const std::uint32_t at = n->location.load(std::memory_order_relaxed);
      if (at == 0) {
        visit(n);
      } else {
        LocationScope scope(at);
        visit(n);
      }
    }
    std::vector<UOp> out;
    for (const UOp& o : outputs) out.push_back(value(o.get()));
    return out;
  }

 private:
  UOp value(const Node* n) const {
    const UOp* v = values_.find(n);
    return v ? *v : UOp();
  }
  bool depends(const Node* n) const {
    if (n->op == Op::LAMBDA) return false;
    if (n->op == Op::GET) return of_outputs_.contains(n->src(0));
    for (Node* s : n->src())
      if (values_.contains(s)) return true;
    return false;
  }
  UOp everywhere(const Batched& s, const Node* n, std::size_t i) const {
    return s[i] ? s[i] : repeat_axis(UOp::share(n->src(i)), 0, batch_);
  }

  void visit(Node* n) {
    if (n->op == Op::GET) {
      if (const UOp& v = of_outputs_.at(n->src(0))[static_cast<std::size_t>(n->arg(0))]) values_.insert(n, v);
      return;
    }
    Batched s;
    for (Node* x : n->src()) s.push_back(value(x));
    if (n->dtype == DType::kVoid) {
      of_outputs_.insert(n, whole(n, s));
      return;
    }
    values_.insert(n, one(n, s));
  }

  UOp elementwise(Node* n, const Batched& s) const {
    std::vector<UOp> src;
    for (std::size_t i = 0; i < s.size(); ++i) src.push_back(everywhere(s, n, i));
    return make(n->op, std::span<const UOp>(src), n->arg());
  }

  UOp one(Node* n, const Batched& s) const {
    if (is_elementwise(n->op)) return elementwise(n, s);
    switch (n->op) {
      case Op::RESHAPE:
      case Op::EXPAND: {
        Dims shape = shape_of(n);
        shape.insert(shape.begin(), batch_);
        return n->op == Op::RESHAPE ? reshape(s[0], shape) : broadcast_to(s[0], shape);
      }
      case Op::PERMUTE: {
        Dims axes{0};
        for (std::int64_t a : n->arg()) axes.push_back(a + 1);
        return permute(s[0], axes);
      }
      case Op::SLICE: {
        Dims arg{0, batch_, 1};
        arg.insert(arg.end(), n->arg().begin(), n->arg().end());
        return slice(s[0], arg);
      }
      case Op::PAD: {
        Dims arg{n->arg(0), 0, 0};
        arg.insert(arg.end(), n->arg().begin() + 1, n->arg().end());
        return make(Op::PAD, {s[0]}, arg);
      }
      case Op::ROLL: return make(Op::ROLL, {s[0]}, {n->arg(0) + 1, n->arg(1)});
      case Op::CUMSUM: return make(Op::CUMSUM, {s[0]}, {n->arg(0) + 1});
      case Op::FFT:
      case Op::RFFT:
      case Op::IRFFT: {
        Dims arg(n->arg().begin(), n->arg().end());
        for (std::size_t i = kFirstFftAxis; i < arg.size(); ++i) ++arg[i];
        return make(n->op, {s[0]}, arg);
      }
      case Op::CAT: {
        std::vector<UOp> parts;
        for (std::size_t i = 0; i < s.size(); ++i) parts.push_back(everywhere(s, n, i));
        return cat(parts, n->arg(0) + 1);
      }
      case Op::REDUCE: {
        Dims axes;
        for (std::int64_t a : n->arg().subspan(1)) axes.push_back(a + 1);
        return reduce(static_cast<Reduction>(n->arg(0)), s[0], axes);
      }
      case Op::AS_REAL: return as_real(s[0]);
      case Op::AS_COMPLEX: return as_complex(s[0]);
      case Op::MATMUL: return matrix_product(n, s);
      case Op::GATHER: return gather(n, s);
      case Op::SCATTER_ADD: return scatter(n, s);
      case Op::CHECK: return check(n, s);
      default: throw Error("vmap", "no rule for " + std::string(name(n->op)), "", 0);
    }
  }

  UOp matrix_product(Node* n, const Batched& s) const {
    const UOp a = UOp::share(n->src(0)), b = UOp::share(n->src(1));
    if (n->shape().size() == 2 && !s[1]) {  // [B, m, k] x [k, n] = [B m, k] x [k, n]
      const std::int64_t rows = n->shape()[0], cols = n->shape()[1], inner = b->shape()[0];
      return reshape(matmul(reshape(s[0], Dims{batch_ * rows, inner}), b), Dims{batch_, rows, cols});
    }
    if (n->shape().size() == 2 && !s[0]) {  // [m, k] x [B, k, n]: the columns of all examples side by side
      const std::int64_t rows = n->shape()[0], cols = n->shape()[1], inner = a->shape()[1];
      const UOp side = reshape(move_axis(s[1], 0, 1), Dims{inner, batch_ * cols});
      return move_axis(reshape(matmul(a, side), Dims{rows, batch_, cols}), 1, 0);
    }
    return matmul(everywhere(s, n, 0), everywhere(s, n, 1));
  }

  // Row b of a [B, n, ...] array seen as [B n, ...] has its indices moved by b n. An index out of range stays
  // so.
  UOp flat_index(const UOp& index, std::int64_t extent) const {
    const DType wide = DType::kInt64;
    const UOp i = cast(index, wide), n = full(wide, i->shape(), static_cast<double>(extent)),
              zero = zeros_like(i);
    const UOp wrapped = where(compare(Op::LT, i, zero), add(i, n), i);
    Dims column(i->shape().size(), 1);
    column[0] = batch_;
    const UOp row = broadcast_to(reshape(iota(batch_), column), i->shape());
    const UOp inside = make(Op::AND, {compare(Op::LE, zero, wrapped), compare(Op::LT, wrapped, n)});
    const UOp outside = full(wide, i->shape(), static_cast<double>(extent) * static_cast<double>(batch_));
    return where(inside, add(wrapped, mul(row, n)), outside);
  }
  // [B, pre..., n, post...] as [B n, pre..., post...].
  UOp rows_first(const UOp& x, std::int64_t axis) const {
    const UOp moved = move_axis(x, axis + 1, 1);
    Dims shape(moved->shape().begin() + 1, moved->shape().end());
    shape[0] *= batch_;
    return reshape(moved, shape);
  }

  UOp gather(Node* n, const Batched& s) const {
    const UOp x = UOp::share(n->src(0)), index = UOp::share(n->src(1));
    const std::int64_t axis = n->arg(0);
    if (!s[1]) return make(Op::GATHER, {s[0], index}, {axis + 1});
    if (!s[0]) return move_axis(make(Op::GATHER, {x, s[1]}, {axis}), axis, 0);
    // [B n, pre..., post...] taken at [B, index...] = [B, index..., pre..., post...]; pre goes before index.
    UOp out = make(Op::GATHER,
                   {rows_first(s[0], axis), flat_index(s[1], x->shape()[static_cast<std::size_t>(axis)])},
                   {std::int64_t{0}});
    const auto index_rank = static_cast<std::int64_t>(index->shape().size());
    for (std::int64_t d = 0; d < axis; ++d) out = move_axis(out, 1 + index_rank + d, 1 + d);
    return out;
  }

  UOp scatter(Node* n, const Batched& s) const {
    const std::int64_t axis = n->arg(0);
    const UOp base = everywhere(s, n, 0), values = everywhere(s, n, 2);
    if (!s[1]) return make(Op::SCATTER_ADD, {base, UOp::share(n->src(1)), values}, {axis + 1});
    const std::int64_t extent = n->shape()[static_cast<std::size_t>(axis)];
    const auto index_rank = static_cast<std::int64_t>(n->src(1)->shape().size());
    UOp parts = values;  // [B, pre..., index..., post...] to [B, index..., pre..., post...]
    for (std::int64_t d = 0; d < index_rank; ++d) parts = move_axis(parts, 1 + axis + d, 1 + d);
    const UOp flat =
        make(Op::SCATTER_ADD, {rows_first(base, axis), flat_index(s[1], extent), parts}, {std::int64_t{0}});
    Dims split(flat->shape().begin(), flat->shape().end());
    split[0] = extent;
    split.insert(split.begin(), batch_);
    return move_axis(reshape(flat, split), 1, axis + 1);
  }

  // Of all examples together: one that fails is an error for all.
  UOp check(const Node* n, const Batched& s) const {
    UOp scalar = UOp::share(n->src(1));
    if (s[1]) {
      const auto kind = static_cast<CheckKind>(n->arg(0));
      if (kind == CheckKind::kIndexInRange) throw Error("vmap", "no rule for CHECK of an index", "", 0);
      const Dims all{0};
      const bool flag = s[1]->dtype == DType::kBool;
      const Reduction how = flag                            ? Reduction::kMin
                            : kind == CheckKind::kProjected ? Reduction::kSum
                                                            : Reduction::kMax;
      scalar = reduce(how, cast(s[1], DType::kInt64), all);
      if (flag) scalar = compare(Op::NE, scalar, constant_int(0));
    }
    return make(n->op, {everywhere(s, n, 0), scalar}, n->arg());
  }

  std::vector<UOp> whole(Node* n, const Batched& s) const {
    switch (n->op) {
      case Op::SCAN: return scan(n, s);
      case Op::EVOLVE: return evolve(n, s);
      case Op::SCAN_VJP:
      case Op::EVOLVE_VJP: return derivative_call(n, s);
      default: throw Error("vmap", "no rule for " + std::string(name(n->op)), "", 0);
    }
  }

  std::vector<UOp> scan(Node* n, const Batched& given) const {
    if (given[1]) throw Error("vmap", "the number of steps of a scan must be the same for all", "", 0);
    Batched s = given;
    ScanParts step = open_scan(n);
    const std::size_t flag = step.carry.size();
    const bool until = static_cast<bool>(step.until);
    if (until) {  // each example stops by itself: a flag of its own
      step = without_until(step);
      s.insert(s.begin() + 2 + static_cast<std::ptrdiff_t>(flag), UOp());
    }
    std::vector<UOp> outputs = step.next;
    outputs.insert(outputs.end(), step.outs.begin(), step.outs.end());
    // carry, xs and captured in one row: their params, values, and batched values.
    const std::size_t n_carry = step.carry.size(), n_xs = step.xs.size();
    std::vector<UOp> plain = step.carry_params, value = step.carry;
    for (const auto* part : {&step.row_params, &step.captured_params})
      plain.insert(plain.end(), part->begin(), part->end());
    for (const auto* part : {&step.xs, &step.captured}) value.insert(value.end(), part->begin(), part->end());
    const auto batched_value = [&](std::size_t i) {
      return s[2 + i] ? s[2 + i] : repeat_axis(value[i], 0, batch_);
    };

    // A carry that starts the same for all may become batched by another: repeat until no more do.
    std::vector<char> is_batched(plain.size(), 0);
    for (std::size_t i = 0; i < plain.size(); ++i) is_batched[i] = static_cast<bool>(s[2 + i]);
    std::vector<UOp> params, results;
    for (bool more = true; more;) {
      more = false;
      params = plain;
      std::vector<UOp> inputs, values;
      for (std::size_t i = 0; i < plain.size(); ++i) {
        if (!is_batched[i]) continue;
        params[i] = symbol_of_batch(plain[i].get(), batch_);
        inputs.push_back(plain[i]);
        values.push_back(params[i]);
      }
      results = Batch().run(outputs, inputs, values);
      for (std::size_t c = 0; c < n_carry; ++c)
        if (results[c] && !is_batched[c]) {
          is_batched[c] = 1;
          more = true;
        }
    }
    ScanParts lifted;
    lifted.index = step.index;
    lifted.steps = step.steps;
    lifted.reversible = step.reversible;
    lifted.range = step.range;
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const bool is_x = i >= n_carry && i < n_carry + n_xs;
      UOp v = !is_batched[i] ? value[i] : is_x ? move_axis(batched_value(i), 1, 0) : batched_value(i);
      auto& to_params = i < n_carry ? lifted.carry_params : is_x ? lifted.row_params : lifted.captured_params;
      auto& to = i < n_carry ? lifted.carry : is_x ? lifted.xs : lifted.captured;
      to_params.push_back(params[i]);
      to.push_back(std::move(v));
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      UOp body = results[i];
      if (!body) body = i < n_carry && is_batched[i] ? repeat_axis(outputs[i], 0, batch_) : outputs[i];
      (i < n_carry ? lifted.next : lifted.outs).push_back(std::move(body));
    }
    const UOp batched = make_scan(lifted);
    std::vector<UOp> out(outputs.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const UOp g = get(batched, static_cast<std::int64_t>(i));
      if (i < n_carry ? is_batched[i] : static_cast<bool>(results[i]))
        out[i] = i < n_carry ? g : move_axis(g, 1, 0);
      else
        out[i] = repeat_axis(g, 0, batch_);
    }
    if (until) out.erase(out.begin() + static_cast<std::ptrdiff_t>(flag));
    return out;
  }

  std::vector<UOp> evolve(const Node* n, const Batched& s) const {
    const EvolveView view(n);
    if (s[2]) throw Error("vmap", "the number of steps of an evolution must be the same for all", "", 0);
    if (!view.commutes_with_batch()) {
      const LoweredEvolve lowered(n);
      std::vector<UOp> inputs, batched;
      for (std::size_t i = 0; i < s.size(); ++i)
        if (s[i] && lowered.symbols[i]) {
          inputs.push_back(lowered.symbols[i]);
          batched.push_back(s[i]);
        }
      return lowered.at_sources(Batch().run(lowered.outputs, inputs, batched));
    }
    if (view.record().timed && (s[1] || s[5])) {
      const UOp unit = by_unit_steps(n);
      Batched moved{UOp(), UOp(), UOp(), s[3], s[4], UOp(), s[5], s[1]};
      moved.insert(moved.end(), s.begin() + 6, s.end());
      moved.resize(unit->n_src);
      return evolve(unit.get(), moved);
    }
    std::vector<UOp> plain{symbol_like(view.q()), symbol_like(view.p())};
    for (Node* c : view.captured()) plain.push_back(symbol_like(c));
    std::vector<UOp> terms = tinyphys::apply(view.energy(), plain);
    UOp dt = UOp::share(view.dt());
    std::vector<UOp> values;
    for (std::size_t i = 0; i < plain.size(); ++i)
      values.push_back(i < 2 ? everywhere(s, n, 3 + i) : s[3 + i] ? s[3 + i] : UOp::share(n->src(3 + i)));
    if (s[1]) {
      plain.push_back(symbol_like(dt.get()));
      values.push_back(s[1]);
      for (UOp& term : terms) term = mul(plain.back(), term);
      dt = ones_like(dt);
    }
    std::vector<UOp> params, inputs, batched;
    for (std::size_t i = 0; i < plain.size(); ++i) {
      params.push_back(symbol_like(values[i].get()));
      if (same_shape(plain[i].get(), values[i].get())) {
        terms = substitute(terms, [&](Node* x) { return x == plain[i].get() ? params[i] : UOp(); });
      } else {
        inputs.push_back(plain[i]);
        batched.push_back(params[i]);
      }
    }
    const std::vector<UOp> each = Batch().run(terms, inputs, batched);
    for (std::size_t k = 0; k < terms.size(); ++k)
      if (each[k]) terms[k] = sum_all(each[k]);  // a constant moves nothing
    std::vector<UOp> captured(values.begin() + 2, values.end());
    std::vector<UOp> src{close_lambda(terms, params, captured), dt, UOp::share(view.steps()), values[0],
                         values[1]};
    src.insert(src.end(), captured.begin(), captured.end());
    EvolveRecord record = view.record();
    if (s[1]) record.dt_in_energy = true;
    if (record.batch_axes > 0) ++record.batch_axes;  // the examples are an axis of members, too
    const UOp all = make(Op::EVOLVE, std::span<const UOp>(src), record.encode());
    return {get(all, 0), get(all, 1)};
  }

  // The pull-back of the batched call. A cotangent that is asked for is one per example, so that its input is
  // repeated first; the others may stay shared.
  std::vector<UOp> derivative_call(Node* n, const Batched& s) const {
    const VjpCall call(n);
    const std::size_t count = call.inputs.size();
    std::vector<char> asked(count, 0);
    if (const auto* used = used_.find(n))
      for (std::size_t i : *used) asked[i] = 1;
    NodeMap<UOp> actual;
    std::vector<UOp> plain, inputs, values, wrt;
    std::vector<std::size_t> wrt_at;
    for (std::size_t i = 0; i < count; ++i) {
      const UOp& x = call.inputs[i];
      const bool differentiable = has_derivative(x->dtype);
      plain.push_back(differentiable || s[call.first + i] ? symbol_like(x.get()) : x);
      if (plain[i] == x) continue;
      if (!s[call.first + i] && !asked[i]) {
        actual.insert(plain[i].get(), x);
        continue;
      }
      const UOp v = everywhere(s, n, call.first + i);
      inputs.push_back(plain[i]);
      values.push_back(symbol_like(v.get()));
      actual.insert(values.back().get(), v);
      if (!asked[i] || !differentiable) continue;
      wrt.push_back(values.back());
      wrt_at.push_back(i);
    }
    std::vector<UOp> cotangents;
    for (std::size_t j = 0; j < call.cotangents.size(); ++j)
      cotangents.push_back(everywhere(s, n, call.first + count + j));
    std::vector<UOp> outputs = outputs_of(call.primal(plain));
    const std::vector<UOp> batched = Batch().run(outputs, inputs, values);
    for (std::size_t j = 0; j < outputs.size(); ++j)
      outputs[j] = batched[j] ? batched[j] : repeat_axis(outputs[j], 0, batch_);
    const std::vector<UOp> pulled = vjp(outputs, cotangents, wrt);
    std::vector<UOp> out(count);
    for (std::size_t k = 0; k < wrt.size(); ++k)
      if (pulled[k])
        out[wrt_at[k]] = substitute(pulled[k], [&](Node* x) {
          const UOp* a = actual.find(x);
          return a ? *a : UOp();
        });
    // Zero for every example: the value of the unbatched node is zero too, and is not used.
    for (std::size_t i = 0; i < count; ++i)
      if (!out[i] && asked[i]) out[i] = repeat_axis(zeros_like(call.inputs[i]), 0, batch_);
    return out;
  }

  std::int64_t batch_ = 0;
  NodeMap<UOp> values_;
  NodeMap<std::vector<UOp>> of_outputs_;
  NodeMap<std::vector<std::size_t>> used_;
};

}  // namespace

std::vector<UOp> vmap(std::span<const UOp> outputs, std::span<const UOp> inputs,
                      std::span<const UOp> values) {
  return Batch().run(outputs, inputs, values);
}

}  // namespace tinyphys
