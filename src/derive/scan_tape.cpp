#include "derive/scan_tape.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>

#include "derive/fixed_point.hpp"
#include "derive/gradient.hpp"
#include "derive/gradient_rules.hpp"
#include "derive/lower_evolve.hpp"
#include "derive/shears.hpp"
#include "derive/way_back.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

void append(std::vector<UOp>& to, std::span<const UOp> from) {
  to.insert(to.end(), from.begin(), from.end());
}
void append(std::vector<UOp>& to, std::span<Node* const> from) {
  for (Node* n : from) to.push_back(UOp::share(n));
}

bool is_vjp(const Node* n) { return n->op == Op::SCAN_VJP || n->op == Op::EVOLVE_VJP; }

// Whether a body, or a body inside it, holds a derivative call.
bool holds_vjp(Node* lambda) {
  std::vector<Node*> pending{lambda};
  NodeMap<char> seen;
  while (!pending.empty()) {
    Node* body = pending.back();
    pending.pop_back();
    for (Node* n : toposort(std::span<Node* const>(&body, 1))) {
      if (is_vjp(n)) return true;
      if (n->op == Op::LAMBDA && n != body && seen.insert(n, 1)) pending.push_back(n);
    }
  }
  return false;
}

// The same SCAN or EVOLVE with a body that holds no derivative call. Numbers that the lowering brings in are
// captured, as in any body.
UOp with_lowered_body(const UOp& whole, const LiftVjp& lift, bool may_undo) {
  if (whole->op == Op::SCAN) {
    ScanParts s = open_scan(whole.get());
    std::vector<UOp> outputs = s.next;
    append(outputs, s.outs);
    if (s.until) outputs.push_back(s.until);
    outputs = lower_vjps(outputs, lift, may_undo);
    if (s.until) s.until = outputs.back();
    const auto outs = outputs.begin() + static_cast<std::ptrdiff_t>(s.next.size());
    std::copy(outs, outs + static_cast<std::ptrdiff_t>(s.outs.size()), s.outs.begin());
    std::copy(outputs.begin(), outs, s.next.begin());
    return make_scan(s);
  }
  Node* energy = whole->src(0);
  std::vector<UOp> params(static_cast<std::size_t>(energy->arg(0))), extra, src;
  for (std::size_t i = 0; i < params.size(); ++i) params[i] = symbol_like(whole->src(i + 3));
  src.push_back(close_lambda(lower_vjps(tinyphys::apply(energy, params), lift, false), params, extra));
  append(src, whole->src().subspan(1));
  append(src, extra);
  return make(Op::EVOLVE, std::span<const UOp>(src), whole->arg());
}

// Rows in the order of the way back.
UOp reversed(const UOp& x) { return flip(x, 0); }

// Some of the steps of a scan, one after the other.
struct Segment {
  std::int64_t steps = 0;
  UOp first;               // number of the first of them; null: 0
  std::vector<UOp> xs;     // rows of them
  std::vector<UOp> given;  // cotangents of the stacked outputs of them; null where they are no floats

  UOp number(const UOp& i) const { return first ? add(first, i) : i; }
  Segment part(std::int64_t begin, std::int64_t end) const {
    Segment s{end - begin, begin == 0 ? first : number(constant_int(begin)), xs, given};
    for (auto* rows : {&s.xs, &s.given})
      for (UOp& r : *rows)
        if (r) r = slice_axis(r, 0, begin, end);
    return s;
  }
};

// [blocks, length, ...] of the first rows of x.
UOp in_blocks(const UOp& x, std::int64_t blocks, std::int64_t length) {
  Dims shape = shape_of(x.get());
  const UOp rows = shape[0] == blocks * length ? x : slice_axis(x, 0, 0, blocks * length);
  shape[0] = length;
  shape.insert(shape.begin(), blocks);
  return reshape(rows, shape);
}
UOp joined(const UOp& x) {
  Dims shape = shape_of(x.get());
  shape[1] *= shape[0];
  shape.erase(shape.begin());
  return reshape(x, shape);
}

// What one way back over a segment makes.
struct Back {
  std::vector<UOp>
      adjoint;            // cotangents of the float carries, then sums of the cotangents of captured values
  std::vector<UOp> rows;  // cotangents of the xs that are wanted
};

class Gradient {
 public:
  Gradient(const Node* n, const std::vector<bool>& wanted, const LiftVjp& lift, bool may_undo)
      : scan_(n),
        step_(open_scan(n)),
        results_(output_count(n)),
        wanted_(wanted),
        lift_(lift),
        may_undo_(may_undo) {
    if (wanted_.empty()) wanted_.assign(results_.size(), true);
    state_.symbols = state_.values = step_.carry_params;
    state_.next = step_.next;
    state_.start = step_.carry;
    if (step_.reversible != Reversible::Exact) return;
    const std::string why = may_undo_ ? fixed_refusal(step_) : "it is differentiated again";
    if (!why.empty()) fail("no gradient through Reversible::Exact: " + why);
    fixed_.emplace(step_);
    state_ = {fixed_->symbols(), fixed_->values(fixed_->symbols()), fixed_->next(), fixed_->start()};
  }

  std::vector<UOp> run() {
    trace();
    lower_bodies();
    const auto cts = scan_.cotangents();
    Segment all{const_int(scan_.steps()), UOp(), step_.xs, {}};
    for (std::size_t j = scan_.n_carry; j < outputs_.size(); ++j)
      all.given.push_back(cotangents_[j] ? UOp::share(cts[j]) : UOp());
    std::vector<UOp> adjoint;
    for (std::size_t i = 0; i < scan_.n_carry; ++i)
      if (cotangents_[i]) adjoint.push_back(UOp::share(cts[i]));
    for (std::size_t i = 0; i < step_.captured.size(); ++i)
      if (pulled_captured(i)) adjoint.push_back(zeros_like(step_.captured[i]));
    place(way_back(all, adjoint));
    for (std::size_t i = 0; i < results_.size(); ++i)
      if (wanted_[i] && !results_[i]) results_[i] = zeros_like(UOp::share(scan_.node->src(2 + i)));
    return std::move(results_);
  }

 private:
  // The vjp of one step, over symbols.
  void trace() {
    outputs_ = step_.next;
    append(outputs_, step_.outs);
    for (const UOp& o : outputs_) cotangents_.push_back(is_float(o->dtype) ? symbol_like(o.get()) : UOp());
    std::vector<UOp> wrt = step_.carry_params;
    append(wrt, step_.row_params);
    append(wrt, step_.captured_params);
    pulled_ = vjp(outputs_, cotangents_, wrt);
    for (std::size_t i = 0; i < pulled_.size(); ++i)
      if (!is_float(wrt[i]->dtype) || (i >= scan_.n_carry && !wanted_[i])) pulled_[i] = UOp();
  }
  const UOp& pulled_x(std::size_t i) const { return pulled_[scan_.n_carry + i]; }
  const UOp& pulled_captured(std::size_t i) const { return pulled_[scan_.n_carry + scan_.n_xs + i]; }

  // The bodies of the scans that are made: of the steps themselves, and of their adjoints.
  void lower_bodies() {
    state_.next = lowered(state_.next);
    if (fixed_) state_.start = lowered(state_.start);
    for (std::size_t i = 0; i < scan_.n_carry; ++i) {
      if (!cotangents_[i]) continue;
      adjoint_params_.push_back(cotangents_[i]);
      adjoint_next_.push_back(pulled_[i] ? pulled_[i] : zeros_like(step_.carry_params[i]));
    }
    n_cotangents_ = adjoint_params_.size();
    for (std::size_t i = 0; i < step_.captured.size(); ++i) {
      if (!pulled_captured(i)) continue;
      adjoint_params_.push_back(symbol_like(step_.captured[i].get()));
      adjoint_next_.push_back(add(adjoint_params_.back(), pulled_captured(i)));
    }
    std::vector<UOp> all = adjoint_next_;
    for (std::size_t i = 0; i < scan_.n_xs; ++i)
      if (pulled_x(i)) all.push_back(pulled_x(i));
    all = lower_vjps(all, lift_, may_undo_);
    const auto rows = all.begin() + static_cast<std::ptrdiff_t>(adjoint_next_.size());
    row_cotangents_.assign(rows, all.end());
    adjoint_next_.assign(all.begin(), rows);
    // What the way back reads: of an affine step no state, and it is affine itself.
    std::vector<Node*> roots;
    for (const UOp& b : all) roots.push_back(b.get());
    for (Node* n : toposort(roots)) read_.insert(n, 1);
    for (const UOp& c : step_.carry_params) reads_state_ |= read_.contains(c.get());
  }

  std::vector<UOp> lowered(const std::vector<UOp>& roots) const {
    return lower_vjps(roots, lift_, may_undo_);
  }
  [[noreturn]] void fail(const std::string& why) const {
    const auto where = locations(scan_.node);
    throw Error("gradient", why, where.empty() ? "" : where[0].file.c_str(),
                where.empty() ? 0 : where[0].line);
  }

  static std::vector<UOp> at_index(const std::vector<UOp>& body, const UOp& index, const UOp& value) {
    return substitute(body, [&](Node* n) { return n == index.get() ? value : UOp(); });
  }
  // A scan over the steps of a segment, without a body: symbols, rows and what is captured.
  ScanParts over(const Segment& s, bool back) const {
    ScanParts p;
    p.index = symbol(DType::kInt64, {});
    p.steps = constant_int(s.steps);
    p.captured_params = step_.captured_params;
    p.captured = step_.captured;
    for (std::size_t i = 0; i < s.xs.size(); ++i) add_rows(p, step_.row_params[i], s.xs[i], back);
    return p;
  }
  static void add_rows(ScanParts& p, const UOp& param, const UOp& rows, bool back) {
    p.row_params.push_back(param);
    p.xs.push_back(back ? reversed(rows) : rows);
  }
  // The number of the step on the way back.
  static UOp counted_back(const Segment& s, const ScanParts& p) {
    return s.number(sub(constant_int(s.steps - 1), p.index));
  }
  static std::vector<UOp> outputs(const UOp& scan, std::size_t from, std::size_t n) {
    std::vector<UOp> out;
    for (std::size_t i = 0; i < n; ++i) out.push_back(get(scan, static_cast<std::int64_t>(from + i)));
    return out;
  }

  // The steps of a segment. `stacked`: the states that enter them, as the adjoints take them, in place of the one that leaves
  // the last.
  std::vector<UOp> forward(const Segment& s, const std::vector<UOp>& state, bool stacked) const {
    if (state.empty()) return {};
    ScanParts p = over(s, false);
    p.method = Method::Loop;  // the steps themselves, also where a jump would do
    p.carry_params = state_.symbols;
    p.carry = state;
    p.next = at_index(state_.next, step_.index, s.number(p.index));
    if (stacked) p.outs = state_.values;
    return outputs(make_scan(p), stacked ? state.size() : 0, state.size());
  }

  // The adjoints of the steps of a segment, from the last to the first. `states`: those that enter the steps, as rows in that
  // order; empty where none is read.
  Back adjoints(const Segment& s, const std::vector<UOp>& states, const std::vector<UOp>& adjoint) const {
    ScanParts p = over(s, true);
    p.method = step_.method;
    for (std::size_t i = p.row_params.size(); i-- > 0;)
      if (!read_.contains(p.row_params[i].get())) {
        p.row_params.erase(p.row_params.begin() + static_cast<std::ptrdiff_t>(i));
        p.xs.erase(p.xs.begin() + static_cast<std::ptrdiff_t>(i));
      }
    for (std::size_t i = 0; i < states.size(); ++i)
      if (read_.contains(step_.carry_params[i].get())) add_rows(p, step_.carry_params[i], states[i], false);
    for (std::size_t j = 0; j < s.given.size(); ++j)
      if (const UOp& ct = cotangents_[scan_.n_carry + j]; ct && read_.contains(ct.get()))
        add_rows(p, ct, s.given[j], true);
    p.carry_params = adjoint_params_;
    p.carry = adjoint;
    const UOp index = counted_back(s, p);
    p.next = at_index(adjoint_next_, step_.index, index);
    p.outs = at_index(row_cotangents_, step_.index, index);
    const UOp scan = make_scan(p);
    Back b{outputs(scan, 0, adjoint.size()), outputs(scan, adjoint.size(), row_cotangents_.size())};
    for (UOp& r : b.rows) r = reversed(r);
    return b;
  }

  Back over_tape(const Segment& s, const std::vector<UOp>& state, const std::vector<UOp>& adjoint) const {
    if (!reads_state_) return adjoints(s, {}, adjoint);
    std::vector<UOp> states = forward(s, state, true);
    for (UOp& rows : states) rows = reversed(rows);
    return adjoints(s, states, adjoint);
  }

  // Blocks of steps from the last to the first: body(block, carry) gives the carry and the cotangents of the xs of the block.
  // What is left over after the blocks comes before them.
  struct Blocks {
    std::int64_t count, length;
    std::vector<UOp> carry, rows;  // rows: one a block, in order
  };
  using BlockBody =
      std::function<Back(const Segment& block, const std::vector<UOp>& carry, const std::vector<UOp>& rows)>;
  Back over_blocks(const Segment& s, const Blocks& blocks, const BlockBody& body) const {
    ScanParts p;
    p.method = Method::Loop;
    p.index = symbol(DType::kInt64, {});
    p.steps = constant_int(blocks.count);
    p.carry = blocks.carry;
    for (const UOp& c : p.carry) p.carry_params.push_back(symbol_like(c.get()));
    const auto row_of = [&](const UOp& rows) {
      if (!rows) return UOp();
      const UOp param = symbol_of_row(rows.get());
      add_rows(p, param, rows, true);
      return param;
    };
    Segment block{blocks.length, UOp(), {}, {}};
    const UOp number = sub(constant_int(blocks.count - 1), p.index);
    block.first = s.number(blocks.length == 1 ? number : mul(number, constant_int(blocks.length)));
    for (const UOp& x : s.xs) block.xs.push_back(row_of(in_blocks(x, blocks.count, blocks.length)));
    for (const UOp& g : s.given)
      block.given.push_back(g ? row_of(in_blocks(g, blocks.count, blocks.length)) : UOp());
    std::vector<UOp> rows;
    for (const UOp& r : blocks.rows) rows.push_back(row_of(r));
    const Back one = body(block, p.carry_params, rows);
    p.next = one.adjoint;
    p.outs = one.rows;
    const UOp scan = make_scan(p);
    Back all{outputs(scan, 0, p.carry.size()), outputs(scan, p.carry.size(), one.rows.size())};
    for (UOp& r : all.rows) r = joined(reversed(r));
    return all;
  }
  static void put_before(Back& back, const Back& later) {
    for (std::size_t i = 0; i < back.rows.size(); ++i)
      back.rows[i] = cat(std::vector<UOp>{back.rows[i], later.rows[i]}, 0);
  }

  // Over checkpoints: the state is kept where each block of base^level steps begins, and each is done like that by itself.
  Back over_checkpoints(const Segment& s, std::int64_t base, int level, const std::vector<UOp>& state,
                        const std::vector<UOp>& adjoint) const {
    std::int64_t length = 1;
    for (int i = 0; i < level; ++i) length *= base;
    const std::int64_t count = s.steps / length, left = s.steps % length;
    if (level == 0) return over_tape(s, state, adjoint);
    if (count == 0 || (count == 1 && left == 0)) return over_checkpoints(s, base, level - 1, state, adjoint);
    // The state at the beginning of each block, and after the last where something is left over: else no step of that one.
    const std::int64_t taken = left > 0 ? count : count - 1;
    const Segment even = s.part(0, count * length);
    ScanParts p;
    p.method = Method::Loop;
    p.index = symbol(DType::kInt64, {});
    p.steps = constant_int(taken);
    p.carry = state;
    for (const UOp& c : state) p.carry_params.push_back(symbol_like(c.get()));
    Segment block{length, s.number(mul(p.index, constant_int(length))), {}, {}};
    for (const UOp& x : s.xs) {
      const UOp rows = in_blocks(x, taken, length);
      block.xs.push_back(symbol_of_row(rows.get()));
      add_rows(p, block.xs.back(), rows, false);
    }
    p.next = forward(block, p.carry_params, false);
    p.outs = p.carry_params;
    const UOp scan = make_scan(p);
    std::vector<UOp> after = outputs(scan, 0, state.size());
    std::vector<UOp> starts = outputs(scan, state.size(), state.size());
    for (std::size_t i = 0; left == 0 && i < starts.size(); ++i) {
      Dims row = shape_of(after[i].get());
      row.insert(row.begin(), 1);
      starts[i] = cat(std::vector<UOp>{starts[i], reshape(after[i], row)}, 0);
    }
    Back later{adjoint, {}};
    if (left > 0) later = over_checkpoints(s.part(count * length, s.steps), base, level - 1, after, adjoint);
    Back all =
        over_blocks(even, {count, length, later.adjoint, starts},
                    [&](const Segment& b, const std::vector<UOp>& carry, const std::vector<UOp>& start) {
                      return over_checkpoints(b, base, level - 1, start, carry);
                    });
    if (left > 0) put_before(all, later);
    return all;
  }
  Back over_checkpoints(const Segment& s, const WayBack& way, const std::vector<UOp>& adjoint) const {
    if (way.kind == WayBack::Kind::kTape) return over_tape(s, state_.start, adjoint);
    return over_checkpoints(s, way.base, way.levels - 1, state_.start, adjoint);
  }

  // What undoes a step.
  struct Undoing {
    std::vector<UOp> symbols;  // the state that leaves it
    std::vector<UOp> entered;  // that entered it, over those
    std::vector<UOp> values;   // as the adjoints take it
    std::vector<UOp> end;      // the state after all steps
  };
  Undoing undoing() const {
    Undoing u;
    for (const UOp& s : state_.symbols) u.symbols.push_back(symbol_like(s.get()));
    UOp primal = primal_of(const_cast<Node*>(scan_.node));
    if (holds_vjp(primal->src(0))) primal = with_lowered_body(primal, lift_, may_undo_);
    if (fixed_) {
      u.entered = fixed_->entered(u.symbols);
      u.end = FixedPoint(open_scan(primal.get())).whole().state;
    } else {
      u.entered = undone(find_shears(step_), step_, u.symbols, step_.carry);
      u.end = outputs(primal, 0, step_.carry.size());
    }
    u.entered = lowered(u.entered);
    u.values = fixed_ ? fixed_->values(u.entered) : u.entered;
    return u;
  }

  // carry: the state after the segment, and the adjoint there; gives those before it.
  Back over_undone(const Segment& s, const Undoing& u, const std::vector<UOp>& carry) const {
    const std::size_t n = u.symbols.size();
    const auto adjoint_at = carry.begin() + static_cast<std::ptrdiff_t>(n);
    ScanParts p = over(s, true);
    p.method = Method::Loop;
    p.carry_params = u.symbols;
    p.carry.assign(carry.begin(), adjoint_at);
    const UOp index = counted_back(s, p);
    p.next = at_index(u.entered, step_.index, index);
    p.outs = at_index(u.values, step_.index, index);
    if (fixed_) p.until = fixed_->until();
    const UOp scan = make_scan(p);
    Back b = adjoints(s, outputs(scan, n, n), std::vector<UOp>(adjoint_at, carry.end()));
    const std::vector<UOp> before = outputs(scan, 0, n);
    b.adjoint.insert(b.adjoint.begin(), before.begin(), before.end());
    return b;
  }

  Back over_undone(const Segment& s, const WayBack& way, const std::vector<UOp>& adjoint) const {
    const Undoing u = undoing();
    const std::int64_t count = s.steps / way.block, even = count * way.block;
    Back b{u.end, {}};
    append(b.adjoint, adjoint);
    Back later = b;
    if (even < s.steps) later = over_undone(s.part(even, s.steps), u, b.adjoint);
    b = over_blocks(s.part(0, even), {count, way.block, later.adjoint, {}},
                    [&](const Segment& block, const std::vector<UOp>& carry, const std::vector<UOp>&) {
                      return over_undone(block, u, carry);
                    });
    if (even < s.steps) put_before(b, later);
    const auto adjoint_at = b.adjoint.begin() + static_cast<std::ptrdiff_t>(u.end.size());
    const std::vector<UOp> recovered(b.adjoint.begin(), adjoint_at);
    b.adjoint.erase(b.adjoint.begin(), adjoint_at);
    return fixed_ ? checked(b, recovered) : trusted(s, b, recovered, u.end, adjoint);
  }

  // The recovered start is the recorded one, in every bit.
  Back checked(Back b, const std::vector<UOp>& recovered) const {
    const UOp off = distance_of_starts(recovered, state_.start, recovered);
    const UOp same = compare(Op::EQ, off, constant(0.0));
    for (auto* part : {&b.adjoint, &b.rows})
      for (UOp& v : *part)
        v = make(Op::CHECK, {v, same}, {static_cast<std::int64_t>(CheckKind::kStartRecovered)});
    return b;
  }

  // What was made over undone steps, or over checkpoints where they miss the start: by a loop of no step, or of one.
  Back trusted(const Segment& s, const Back& b, const std::vector<UOp>& recovered,
               const std::vector<UOp>& end, const std::vector<UOp>& adjoint) const {
    const UOp missed = distance_of_starts(recovered, state_.start, end);
    const UOp good = compare(Op::LE, missed, constant(kReversalTolerance));
    const Back other = over_checkpoints(s, checkpoints_of(step_), adjoint);
    ScanParts p;
    p.method = Method::Loop;
    p.steps = where(good, constant_int(0), constant_int(1));
    p.carry = b.adjoint;
    append(p.carry, b.rows);
    for (const UOp& c : p.carry) p.carry_params.push_back(symbol_like(c.get()));
    p.next = other.adjoint;
    append(p.next, other.rows);
    // All that it is made of comes in by params: what does not depend on one would be computed outside, and always.
    NodeMap<UOp> inside;
    for (const auto* values : {&step_.carry, &step_.captured, &s.xs, &s.given, &adjoint})
      for (const UOp& v : *values) {
        if (!v || inside.contains(v.get())) continue;
        p.captured.push_back(v);
        p.captured_params.push_back(symbol_like(v.get()));
        inside.insert(v.get(), p.captured_params.back());
      }
    p.next = substitute(p.next, [&](Node* n) {
      const UOp* param = inside.find(n);
      return param ? *param : UOp();
    });
    const UOp scan = make_scan(p);
    Back out{outputs(scan, 0, b.adjoint.size()), outputs(scan, b.adjoint.size(), b.rows.size())};
    told(out, CheckKind::kStartMissed, missed);
    return out;
  }

  // A number for explain(), with each value.
  static void told(Back& b, CheckKind kind, const UOp& number) {
    for (auto* part : {&b.adjoint, &b.rows})
      for (UOp& v : *part) v = make(Op::CHECK, {v, number}, {static_cast<std::int64_t>(kind)});
  }
  // By what factor the largest cotangent of the state grows.
  void tell_growth(Back& b, const std::vector<UOp>& adjoint) const {
    UOp from = constant(0.0), to = constant(0.0);
    for (std::size_t i = 0; i < n_cotangents_; ++i) {
      if (adjoint[i]->size() == 0) continue;
      const auto more = [](const UOp& most, const UOp& x) {
        const UOp flat = reshape(unary(Op::ABS, cast(x, DType::kFloat64)), Dims{x->size()});
        return make(Op::MAX, {most, reduce(Reduction::kMax, flat, Dims{0})});
      };
      from = more(from, adjoint[i]);
      to = more(to, b.adjoint[i]);
    }
    told(b, CheckKind::kAdjointGrew, div(to, from));
  }

  Back way_back(const Segment& s, const std::vector<UOp>& adjoint) const {
    const WayBack way = choose_way_back(step_, may_undo_);
    if (!reads_state_ || way.kind == WayBack::Kind::kTape) return over_tape(s, state_.start, adjoint);
    Back b = way.kind == WayBack::Kind::kCheckpoints ? over_checkpoints(s, way, adjoint)
                                                     : over_undone(s, way, adjoint);
    tell_growth(b, adjoint);
    return b;
  }

  void place(const Back& back) {
    std::size_t next = 0;
    for (std::size_t i = 0; i < scan_.n_carry; ++i)
      if (cotangents_[i]) results_[i] = back.adjoint[next++];
    for (std::size_t i = 0; i < step_.captured.size(); ++i)
      if (pulled_captured(i)) results_[scan_.n_carry + scan_.n_xs + i] = back.adjoint[next++];
    next = 0;
    for (std::size_t i = 0; i < scan_.n_xs; ++i)
      if (pulled_x(i)) results_[scan_.n_carry + i] = back.rows[next++];
  }

  ScanView scan_;
  ScanParts step_;
  std::vector<UOp> results_;
  std::vector<bool> wanted_;
  const LiftVjp& lift_;
  bool may_undo_;
  std::vector<UOp> outputs_, cotangents_, pulled_;
  // What is carried from step to step: the carry itself, or that in fixed point.
  struct State {
    std::vector<UOp> symbols;
    std::vector<UOp> values;  // the carry
    std::vector<UOp> next;    // lowered
    std::vector<UOp> start;
  } state_;
  std::optional<FixedPoint> fixed_;
  std::vector<UOp> adjoint_params_, adjoint_next_, row_cotangents_;
  std::size_t n_cotangents_ = 0;  // of adjoint_params_: those of the carry
  NodeMap<char> read_;            // below adjoint_next_ and row_cotangents_
  bool reads_state_ = false;
};

std::vector<UOp> lower_evolve_vjp(const Node* evolve_vjp, const std::vector<bool>& wanted,
                                  const LiftVjp& lift, bool may_undo) {
  if (const IntegratorRow& row = EvolveView(evolve_vjp).row(); !row.has_loop()) {
    const auto where = locations(evolve_vjp);
    throw Error("gradient",
                "there is no gradient by dt or by numbers of H through Integrator::" + std::string(row.name) +
                    ", which has no loop of steps to walk back (there is one by the state); " +
                    integrator_names([](const IntegratorRow& r) { return r.has_loop(); }) +
                    " have one, and jvp goes through all",
                where.empty() ? "" : where[0].file.c_str(), where.empty() ? 0 : where[0].line);
  }
  const VjpCall call(const_cast<Node*>(evolve_vjp));
  // Fresh symbols: two sources may be one node, and a constant dt may occur in the lowered steps.
  NodeMap<UOp> actual;
  std::vector<UOp> inputs, wrt;
  std::vector<std::size_t> wrt_at;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const UOp& x = call.inputs[i];
    inputs.push_back(is_float(x->dtype) ? symbol_like(x.get()) : x);
    if (inputs[i] == x) continue;
    actual.insert(inputs[i].get(), x);
    if (!wanted.empty() && !wanted[i]) continue;
    wrt.push_back(inputs[i]);
    wrt_at.push_back(i);
  }
  const UOp evolve = call.primal(inputs);
  const std::vector<UOp> pulled = vjp(lower_evolve(evolve.get()), call.cotangents, wrt);
  std::vector<UOp> out(call.inputs.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    if (wanted.empty() || wanted[i]) out[i] = zeros_like(call.inputs[i]);
  for (std::size_t k = 0; k < wrt.size(); ++k)
    if (pulled[k])
      out[wrt_at[k]] = substitute(pulled[k], [&](Node* n) {
        const UOp* a = actual.find(n);
        return a ? *a : UOp();
      });
  std::vector<UOp> present;
  for (const UOp& o : out)
    if (o) present.push_back(o);
  present = lower_vjps(present, lift, may_undo);
  std::size_t next = 0;
  for (UOp& o : out)
    if (o) o = present[next++];
  return out;
}

}  // namespace

std::vector<UOp> lower_vjps(std::span<const UOp> roots, const LiftVjp& lift, bool may_undo) {
  std::vector<Node*> starts;
  for (const UOp& r : roots) starts.push_back(r.get());
  const auto order = toposort(starts);
  NodeMap<std::vector<bool>> wanted;
  for (Node* n : order)
    if (n->op == Op::GET && is_vjp(n->src(0))) {
      auto& w = wanted[n->src(0)];
      if (w.empty()) w.assign(output_count(n->src(0)), false);
      w[static_cast<std::size_t>(n->arg(0))] = true;
    }
  NodeMap<std::vector<UOp>> lowered;  // by the node as it was
  return rebuild(roots,
                 {.ready = [&](Node* n) -> UOp {
                    const auto* values = n->op == Op::GET ? lowered.find(n->src(0)) : nullptr;
                    return values ? (*values)[static_cast<std::size_t>(n->arg(0))] : UOp();
                  },
                  .after = [&](Node* n, const UOp& now) -> UOp {
                    if (is_vjp(n)) {
                      std::vector<UOp> made = lift ? lift(now.get(), wanted[n]) : std::vector<UOp>();
                      if (made.empty())
                        made = n->op == Op::SCAN_VJP ? Gradient(now.get(), wanted[n], lift, may_undo).run()
                                                     : lower_evolve_vjp(now.get(), wanted[n], lift, may_undo);
                      lowered.insert(n, std::move(made));
                    }
                    const bool primal = n->op == Op::SCAN || n->op == Op::EVOLVE;
                    return primal && holds_vjp(now->src(0)) ? with_lowered_body(now, lift, may_undo) : UOp();
                  }});
}

}  // namespace tinyphys
