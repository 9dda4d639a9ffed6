#include "derive/fixed_point.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/storage.hpp"

namespace tinyphys {
namespace {

// The largest value in units, of a state and of an increment: their sum is no overflow.
constexpr int kRangeBits = 61;

UOp at_known(const UOp& x, const NodeMap<UOp>& known) {
  return substitute(x, [&](Node* n) {
    const UOp* k = known.find(n);
    return k ? *k : UOp();
  });
}

// Which parts are in fixed point: floats that are added to.
std::vector<char> in_fixed_point(const ScanParts& step, const Shears& shears) {
  std::vector<char> is(step.carry.size());
  for (const Shears::Undo& u : shears.list)
    if (!u.is_function() && is_float(step.carry[u.part]->dtype)) is[u.part] = 1;
  return is;
}

// int64: 1 where an element is not true.
UOp any_false(const UOp& condition) {
  const UOp wrong = cast(unary(Op::NOT, condition), DType::kInt64);
  return reduce(Reduction::kMax, reshape(wrong, Dims{wrong->size()}), Dims{0});
}

// The shears in an order in which a step may take them: the order of undoing, backward, but that the increment of each is made
// of values that are there by then. What was known of the end when it is undone may not yet be made when it is taken.
std::vector<const Shears::Undo*> in_order(const Shears& shears, const NodeMap<UOp>& start) {
  std::vector<const Shears::Undo*> left, out;
  NodeMap<char> made, awaited;
  for (std::size_t k = shears.list.size(); k-- > 0;)
    if (const Shears::Undo& u = shears.list[k]; !u.is_function()) {
      left.push_back(&u);
      awaited.insert(u.after.get(), 1);
    }
  const auto ready = [&](const Shears::Undo* u) {
    const auto below =
        toposort(u->increment, [&](const Node* n) { return made.contains(n) || start.contains(n); });
    return std::ranges::all_of(below, [&](Node* n) { return made.contains(n) || !awaited.contains(n); }) &&
           (made.contains(u->before.get()) || start.contains(u->before.get()));
  };
  while (!left.empty()) {
    const auto next = std::ranges::find_if(left, ready);
    if (next == left.end()) throw Error("evolve", "the shears of a step have no order", "", 0);
    out.push_back(*next);
    made.insert((*next)->after.get(), 1);
    left.erase(next);
  }
  return out;
}

// Scalar operations of a body, about as the scheduler counts them (codegen/lower.cpp), or more.
std::int64_t operations(std::span<const UOp> body) {
  std::vector<Node*> roots;
  for (const UOp& b : body) roots.push_back(b.get());
  std::int64_t count = 0;
  for (Node* n : toposort(roots)) {
    if (n->op == Op::SCAN) return std::int64_t{1} << 40;
    std::int64_t most = n->dtype == DType::kVoid ? 0 : n->size();
    for (Node* s : n->src())
      if (s->dtype != DType::kVoid) most = std::max(most, s->size());
    if (n->op == Op::MATMUL) most = 2 * n->size() * n->src(0)->shape().back();
    if (n->n_src > 0 && !is_movement(n->op)) count += most;
  }
  return count;
}
// Below both, a scan is one kernel for sure; beyond, an `until` that is never true makes it a loop of kernels for sure, so that
// sums have the same bits forward and back.
constexpr std::int64_t kSureOperations = 2500, kSureCarry = 250;

}  // namespace

// 2^-61 of the range, up to a power of 2.
double fixed_unit(double range) {
  int exponent = 0;
  const double mantissa = std::frexp(range, &exponent);  // in [1/2, 1)
  if (mantissa == 0.5) --exponent;
  return std::ldexp(1.0, exponent - kRangeBits);
}

std::string fixed_refusal(const ScanParts& step) {
  const Shears shears = find_shears(step, false);
  if (!shears.found()) return "a step is no sequence of shears: " + shears.refused;
  const std::vector<char> fixed = in_fixed_point(step, shears);
  for (std::size_t i = 0; i < fixed.size(); ++i) {
    if (!fixed[i]) continue;
    const std::string part = "part " + std::to_string(i) + " of the state";
    if (step.carry[i]->dtype != DType::kFloat64)
      return part + " is " + std::string(name(step.carry[i]->dtype)) + ", it must be float64";
    const double r = i < step.range.size() ? step.range[i] : 0;
    if (!(r > 1e-250 && r < 1e250))
      return part + " needs a range, the largest absolute value that it may take" +
             (r == 0 ? std::string() : "; it is given as " + std::to_string(r));
  }
  return {};
}

std::string start_refusal(const ScanParts& step) {
  const std::vector<char> fixed = in_fixed_point(step, find_shears(step, false));
  for (std::size_t i = 0; i < fixed.size(); ++i) {
    if (!fixed[i]) continue;
    const Node* start = step.carry[i].get();
    const double range = step.range[i];
    const auto outside = [&](double x) { return !(std::fabs(x) <= range); };
    const auto refusal = [&](double x, std::int64_t element) {
      return fmt::format("part {} of the state starts at {} (element {}), outside its range [-{}, {}]", i, x,
                         element, range, range);
    };
    const Node* repeated = start;
    while (repeated->op == Op::EXPAND || repeated->op == Op::RESHAPE) repeated = repeated->src(0);
    if (is_const(repeated) && start->size() > 0 && outside(const_double(repeated)))
      return refusal(const_double(repeated), 0);
    const Storage* known = storage(start);
    if (!known) continue;
    const HostRead values(*known);
    for (std::int64_t k = 0; k < start->size(); ++k)
      if (const double x = values.as<double>()[k]; outside(x)) return refusal(x, k);
  }
  return {};
}

FixedPoint::FixedPoint(const ScanParts& step)
    : step_(step), shears_(find_shears(step, false)), unit_(step.carry.size()) {
  const std::vector<char> fixed = in_fixed_point(step, shears_);
  NodeMap<UOp> known;
  for (std::size_t i = 0; i < unit_.size(); ++i) {
    if (fixed[i]) unit_[i] = fixed_unit(step_.range[i]);
    const UOp& c = step_.carry[i];
    start_.push_back(fixed[i] ? rounded(i, c) : c);
    symbols_.push_back(fixed[i] ? symbol(DType::kInt64, c->shape()) : step_.carry_params[i]);
    known.insert(step_.carry_params[i].get(), value(i, symbols_[i]));
  }
  std::vector<UOp> state = symbols_, wrong(unit_.size());
  for (const Shears::Undo* shear : in_order(shears_, known)) {
    const Shears::Undo& u = *shear;
    UOp increment = at_known(u.increment, known);
    if (fixed[u.part]) {
      UOp inside;
      increment = rounded(u.part, increment, &inside);
      if (increment->size() > 0) {
        const UOp bad = any_false(inside);
        wrong[u.part] = wrong[u.part] ? make(Op::MAX, {wrong[u.part], bad}) : bad;
      }
    }
    UOp& x = state[u.part];
    x = u.minus ? sub(x, increment) : add(x, increment);
    known.insert(u.after.get(), value(u.part, x));
  }
  const auto n = static_cast<std::int64_t>(unit_.size());
  const UOp by_step = mul(offset(step_.index, 1), constant_int(n));
  out_of_range_ = constant_int(0);
  for (std::size_t i = 0; i < unit_.size(); ++i) {
    next_.push_back(fixed[i] ? state[i] : at_known(step_.next[i], known));
    if (!wrong[i]) continue;
    const auto units = static_cast<std::int64_t>(step_.range[i] / unit_[i]);  // 2^61 at most
    const UOp most = broadcast_to(constant_int(units), state[i]->shape());
    const UOp inside = make(Op::AND, {compare(Op::LE, state[i], most), compare(Op::LE, neg(most), state[i])});
    const UOp bad = make(Op::MAX, {wrong[i], any_false(inside)});
    out_of_range_ = where(compare(Op::EQ, bad, constant_int(0)), out_of_range_,
                          add(by_step, constant_int(static_cast<std::int64_t>(i))));
  }
  for (const UOp& o : step_.outs) outs_.push_back(at_known(o, known));

  std::vector<UOp> forward = next_, leaves;
  forward.insert(forward.end(), outs_.begin(), outs_.end());
  forward.push_back(out_of_range_);
  std::int64_t carried = 0;
  for (const UOp& s : symbols_) {
    leaves.push_back(symbol_like(s.get()));
    carried += s->size();
  }
  if (carried > kSureCarry || operations(forward) > kSureOperations ||
      operations(values(entered(leaves))) > kSureOperations)
    until_ = constant_bool(false);
}

UOp FixedPoint::value(std::size_t part, const UOp& state) const {
  return unit_[part] == 0 ? state : scaled(cast(state, DType::kFloat64), unit_[part]);
}

// In units, to the nearest; 0 where it is out of range. `inside`: where it is not.
UOp FixedPoint::rounded(std::size_t part, const UOp& x, UOp* inside) const {
  const UOp units = scaled(x, 1 / unit_[part]);
  const UOp fits = compare(Op::LE, unary(Op::ABS, units), full_like(units, std::ldexp(1.0, kRangeBits)));
  if (inside) *inside = fits;
  return cast(where(fits, unary(Op::FLOOR, offset(units, 0.5)), zeros_like(units)), DType::kInt64);
}

std::vector<UOp> FixedPoint::values(const std::vector<UOp>& state) const {
  std::vector<UOp> out;
  for (std::size_t i = 0; i < state.size(); ++i) out.push_back(value(i, state[i]));
  return out;
}

std::vector<UOp> FixedPoint::entered(const std::vector<UOp>& leaves) const {
  NodeMap<UOp> known, before;  // floats, by the nodes of the step; those that entered, by what left
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    known.insert(step_.next[i].get(), value(i, leaves[i]));
    if (step_.next[i] == step_.carry_params[i]) before.insert(step_.next[i].get(), leaves[i]);
  }
  before.insert(step_.index.get(), offset(step_.index, -1));
  std::vector<UOp> state = leaves;
  for (const Shears::Undo& u : shears_.list) {
    UOp& x = state[u.part];
    if (u.is_function()) {
      const UOp made = at_known(u.after, before);
      const UOp first = compare(Op::EQ, step_.index, constant_int(0));
      x = where(broadcast_to(first, made->shape()), step_.carry[u.part], made);
    } else {
      UOp increment = at_known(u.increment, known);
      if (unit_[u.part] != 0) increment = rounded(u.part, increment);
      x = u.minus ? add(x, increment) : sub(x, increment);
    }
    known.insert(u.before.get(), value(u.part, x));
    if (u.before == step_.carry_params[u.part]) before.insert(step_.next[u.part].get(), value(u.part, x));
  }
  return state;
}

FixedPoint::Whole FixedPoint::whole() const {
  ScanParts p = step_;
  p.reversible = Reversible::Auto;
  p.range.clear();
  p.method = Method::Loop;
  p.carry = start_;
  p.carry_params = symbols_;
  p.next = next_;
  p.outs = outs_;
  p.until = until_;
  // A start that is out of range is so by the first step.
  const UOp seen = symbol(DType::kInt64, {});
  UOp at_start = constant_int(0);
  const auto n = static_cast<std::int64_t>(unit_.size());
  Dims arg{static_cast<std::int64_t>(CheckKind::kStaysInRange), n};
  for (std::size_t i = 0; i < unit_.size(); ++i) {
    arg.push_back(bits(unit_[i] == 0 ? 0.0 : step_.range[i]));
    if (unit_[i] == 0 || step_.carry[i]->size() == 0) continue;
    const UOp& x = step_.carry[i];
    const UOp inside = compare(Op::LE, unary(Op::ABS, x), full_like(x, step_.range[i]));
    at_start = where(compare(Op::EQ, any_false(inside), constant_int(0)), at_start,
                     constant_int(n + static_cast<std::int64_t>(i)));
  }
  p.carry_params.push_back(seen);
  p.carry.push_back(at_start);
  p.next.push_back(where(compare(Op::EQ, seen, constant_int(0)), out_of_range_, seen));
  const UOp scan = make_scan(p);
  const std::size_t n_carry = p.carry.size();
  const UOp left = get(scan, n);
  const auto checked = [&](const UOp& x) { return make(Op::CHECK, {x, left}, arg); };
  Whole w;
  for (std::size_t i = 0; i + 1 < n_carry; ++i)
    w.state.push_back(checked(get(scan, static_cast<std::int64_t>(i))));
  w.carry = values(w.state);
  for (std::size_t o = 0; o < outs_.size(); ++o)
    w.outs.push_back(checked(get(scan, static_cast<std::int64_t>(n_carry + o))));
  return w;
}

}  // namespace tinyphys
