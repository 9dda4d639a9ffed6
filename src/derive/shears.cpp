#include "derive/shears.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "uop/graph.hpp"

namespace tinyphys {
namespace {

UOp at_known(const UOp& x, const NodeMap<UOp>& known) {
  return substitute(x, [&](Node* n) {
    const UOp* k = known.find(n);
    return k ? *k : UOp();
  });
}

// The largest absolute value; x has elements.
UOp largest(const UOp& x) {
  const UOp flat = reshape(unary(Op::ABS, x), Dims{x->size()});
  return reduce(Reduction::kMax, flat, Dims{0});
}

class Finder {
 public:
  explicit Finder(const ScanParts& step) : step_(step), now_(step.next), done_(step.next.size()) {}

  Shears run() {
    for (std::size_t i = 0; i < now_.size(); ++i) {
      params_.insert(step_.carry_params[i].get(), i);
      known_.insert(step_.next[i].get(), 1);
    }
    for (const UOp& r : step_.row_params) rows_.insert(r.get(), 1);
    if (step_.until) return refuse("it ends on a condition (.until)");
    find_functions();
    for (bool more = true; more;) {
      more = false;
      for (std::size_t i = 0; i < now_.size(); ++i) more |= !done_[i] && undo(i);
    }
    for (std::size_t i = 0; i < now_.size(); ++i)
      if (!done_[i]) return refuse(why_not(i));
    return std::move(found_);
  }

 private:
  Shears refuse(std::string why) {
    Shears none;
    none.refused = std::move(why);
    return none;
  }

  // Parts that leave a step as functions of what the others leave it as, and not of their own past.
  void find_functions() {
    functions_.resize(now_.size());
    for (std::size_t k = 0; k < now_.size(); ++k) {
      Node* next = step_.next[k].get();
      if (next == step_.carry_params[k].get()) continue;
      std::vector<std::size_t> of;
      bool function = true;
      for (Node* n :
           toposort(step_.next[k], [&](const Node* x) { return x != next && known_.contains(x); })) {
        if (n != next && known_.contains(n)) {
          for (std::size_t j = 0; j < now_.size(); ++j)
            if (j != k && step_.next[j].get() == n) of.push_back(j);
        } else {
          // A row of .xs is of this step, what enters it was made with the row before.
          function &= !params_.contains(n) && !rows_.contains(n);
        }
      }
      if (function) functions_[k] = std::move(of);
    }
  }

  // Whether x is made of what is known once the later shears are undone.
  bool is_known(const UOp& x) const {
    for (Node* n : toposort(x, [&](const Node* y) { return known_.contains(y); }))
      if (params_.contains(n) && !known_.contains(n)) return false;
    return true;
  }
  bool holds_own(const UOp& x, std::size_t part) const {
    const Node* own = step_.carry_params[part].get();
    const auto below = toposort(x);
    return std::find(below.begin(), below.end(), own) != below.end();
  }

  // Goes one shear of this part back; false: not now.
  bool undo(std::size_t i) {
    const UOp& param = step_.carry_params[i];
    if (functions_[i]) {
      if (!std::ranges::all_of(*functions_[i], [&](std::size_t j) { return done_[j] != 0; })) return false;
      found_.list.push_back({i, param, step_.next[i], UOp(), false});
      return finish(i);
    }
    if (now_[i] == param) return finish(i);
    const UOp n = now_[i];
    if (n->op != Op::ADD && n->op != Op::SUB) return false;
    for (const std::size_t own : {0, 1}) {
      if (own == 1 && n->op == Op::SUB) break;
      const UOp before = n.src(own), increment = n.src(1 - own);
      if (!holds_own(before, i) || !is_known(increment)) continue;
      found_.list.push_back({i, before, n, increment, n->op == Op::SUB});
      now_[i] = before;
      known_.insert(before.get(), 1);
      if (before == param) finish(i);
      return true;
    }
    return false;
  }
  bool finish(std::size_t i) {
    done_[i] = 1;
    known_.insert(step_.carry_params[i].get(), 1);
    return true;
  }

  std::string why_not(std::size_t i) const {
    const UOp& n = now_[i];
    std::vector<std::string> names{"i"};
    NodeMap<UOp> param_of;
    const auto name_all = [&](const std::vector<UOp>& symbols, const std::string& letter) {
      for (std::size_t k = 0; k < symbols.size(); ++k) {
        param_of.insert(symbols[k].get(), param(static_cast<std::int64_t>(names.size()), symbols[k]->dtype,
                                                symbols[k]->shape()));
        names.push_back(letter + std::to_string(k));
      }
    };
    if (step_.index) param_of.insert(step_.index.get(), param(0, DType::kInt64, {}));
    name_all(step_.carry_params, "z");
    name_all(step_.row_params, "x");
    name_all(step_.captured_params, "c");
    const std::string text = to_infix(at_known(n, param_of).get(), 60, names), z = "z" + std::to_string(i);
    const std::string where = location_text(n.get());
    const std::string at = where.empty() ? "" : " at " + where;
    if (n->op == Op::ADD || n->op == Op::SUB)
      return z + " grows by what depends on itself, or on what is not known when it is undone: " + text + at;
    return z + " is not itself plus an increment: " + text + at;
  }

  const ScanParts& step_;
  std::vector<UOp> now_;    // of each part: what of the step is not undone
  std::vector<char> done_;  // it is what entered the step
  std::vector<std::optional<std::vector<std::size_t>>> functions_;  // of which parts
  NodeMap<std::size_t> params_;
  NodeMap<char> known_, rows_;
  Shears found_;
};

// The carries as the pieces that they are joined of; nothing where none is.
class Splitter {
 public:
  explicit Splitter(const ScanParts& step) : step_(step) {}

  bool run(Shears& to) {
    ScanParts& parts = to.parts;
    parts = step_;
    parts.carry_params.clear();
    parts.carry.clear();
    parts.next.clear();
    parts.outs.clear();
    for (std::size_t i = 0; i < step_.next.size(); ++i) {
      const UOp& next = step_.next[i];
      if (next->op != Op::CAT || next->n_src < 2) {
        add(to, {i, -1, 0, 0}, step_.carry_params[i], next);
        continue;
      }
      const auto axis = static_cast<std::size_t>(next->arg(0));
      std::vector<UOp> whole;
      std::int64_t begin = 0;
      for (Node* source : next->src()) {
        UOp x = UOp::share(source);
        while (x->op == Op::RESHAPE) x = x.src(0);
        const UOp symbol = symbol_like(x.get());
        const std::int64_t end = begin + source->shape()[axis];
        add(to, {i, next->arg(0), begin, end}, symbol, x);
        whole.push_back(reshape(symbol, source->shape()));
        begin = end;
      }
      first_.insert(step_.carry_params[i].get(), to.pieces.size() - next->n_src);
      whole_.insert(step_.carry_params[i].get(), cat(whole, next->arg(0)));
    }
    if (whole_.size() == 0) return false;
    parts.carry = pieces_of(to, step_.carry);
    parts.next = rebuild(parts.next, {.replace = [&](Node* n) { return replaced(to, n); },
                                      .after = [](Node*, const UOp& now) -> UOp {
                                        const bool twice =
                                            now->op == Op::RESHAPE && now->src(0)->op == Op::RESHAPE;
                                        return twice ? reshape(now.src(0).src(0), now->shape()) : UOp();
                                      }});
    return true;
  }

  static std::vector<UOp> pieces_of(const Shears& shears, std::span<const UOp> carry) {
    std::vector<UOp> out;
    for (std::size_t k = 0; k < shears.pieces.size(); ++k) {
      const Shears::Piece& p = shears.pieces[k];
      const UOp& whole = carry[p.carry];
      out.push_back(p.axis < 0 ? whole
                               : reshape(slice_axis(whole, p.axis, p.begin, p.end),
                                         shears.parts.carry_params[k]->shape()));
    }
    return out;
  }
  // `like`: the carries.
  static std::vector<UOp> joined(const Shears& shears, std::span<const UOp> pieces,
                                 std::span<const UOp> like) {
    std::vector<std::vector<UOp>> of(like.size());
    std::vector<std::int64_t> axes(like.size(), -1);
    for (std::size_t k = 0; k < pieces.size(); ++k) {
      const Shears::Piece& p = shears.pieces[k];
      axes[p.carry] = p.axis;
      Dims shape = shape_of(like[p.carry].get());
      if (p.axis >= 0) shape[static_cast<std::size_t>(p.axis)] = p.end - p.begin;
      of[p.carry].push_back(reshape(pieces[k], shape));
    }
    std::vector<UOp> out;
    for (std::size_t i = 0; i < like.size(); ++i)
      out.push_back(axes[i] < 0 ? of[i].front() : cat(of[i], axes[i]));
    return out;
  }

 private:
  static void add(Shears& to, Shears::Piece piece, const UOp& param, const UOp& next) {
    to.pieces.push_back(piece);
    to.parts.carry_params.push_back(param);
    to.parts.next.push_back(next);
  }
  // What the step reads of a carry, of the piece that it lies in.
  UOp replaced(const Shears& to, Node* n) const {
    if (const UOp* whole = whole_.find(n)) return *whole;
    if (n->op != Op::SLICE || !first_.contains(n->src(0))) return {};
    const std::size_t first = *first_.find(n->src(0));
    const std::size_t carry = to.pieces[first].carry;
    for (std::size_t k = first; k < to.pieces.size() && to.pieces[k].carry == carry; ++k) {
      const Shears::Piece& p = to.pieces[k];
      const auto at = 3 * static_cast<std::size_t>(p.axis);
      if (n->arg(at) < p.begin || n->arg(at + 1) > p.end || n->arg(at + 2) != 1) continue;
      Dims arg(n->arg().begin(), n->arg().end()), shape = shape_of(n->src(0));
      arg[at] -= p.begin;
      arg[at + 1] -= p.begin;
      shape[static_cast<std::size_t>(p.axis)] = p.end - p.begin;
      return slice(reshape(to.parts.carry_params[k], shape), arg);
    }
    return {};
  }

  const ScanParts& step_;
  NodeMap<UOp> whole_;          // by the param of a carry
  NodeMap<std::size_t> first_;  // number of its first piece
};

}  // namespace

Shears find_shears(const ScanParts& step, bool split) {
  Shears whole = Finder(step).run();
  Shears of_pieces;
  if (whole.found() || !split || !Splitter(step).run(of_pieces)) return whole;
  Shears found = Finder(of_pieces.parts).run();
  found.pieces = std::move(of_pieces.pieces);
  found.parts = std::move(of_pieces.parts);
  return found;
}

std::vector<UOp> undone(const Shears& shears, const ScanParts& step, std::span<const UOp> leaves,
                        std::span<const UOp> recorded) {
  if (!shears.pieces.empty()) {
    Shears of_parts = shears;
    of_parts.pieces.clear();
    const std::vector<UOp> before = undone(of_parts, shears.parts, Splitter::pieces_of(shears, leaves),
                                           Splitter::pieces_of(shears, recorded));
    return Splitter::joined(shears, before, leaves);
  }
  NodeMap<UOp> known, entered;  // by the nodes of the step; what entered, by what left
  for (std::size_t i = 0; i < leaves.size(); ++i) known.insert(step.next[i].get(), leaves[i]);
  std::vector<UOp> out(leaves.begin(), leaves.end());
  for (std::size_t i = 0; i < leaves.size(); ++i)
    if (step.next[i] == step.carry_params[i]) entered.insert(step.next[i].get(), leaves[i]);
  // It was made at the end of the step before.
  if (step.index) entered.insert(step.index.get(), offset(step.index, -1));
  for (const Shears::Undo& u : shears.list) {
    UOp before;
    if (u.is_function()) {
      const UOp made = at_known(u.after, entered);
      const UOp first = compare(Op::EQ, step.index, constant_int(0));
      before = where(broadcast_to(first, made->shape()), recorded[u.part], made);
    } else {
      const UOp after = *known.find(u.after.get()), increment = at_known(u.increment, known);
      before = u.minus ? add(after, increment) : sub(after, increment);
    }
    known.insert(u.before.get(), before);
    if (u.before != step.carry_params[u.part]) continue;
    out[u.part] = before;
    entered.insert(step.next[u.part].get(), before);
  }
  return out;
}

UOp distance_of_starts(std::span<const UOp> recovered, std::span<const UOp> recorded,
                       std::span<const UOp> end) {
  UOp worst = constant(0.0);
  for (std::size_t i = 0; i < recovered.size(); ++i) {
    const UOp &r = recovered[i], &s = recorded[i];
    if (r->size() == 0 || r == s) continue;
    UOp off;
    if (is_float(r->dtype)) {
      const UOp zero = constant(0.0);
      const auto size = [](const UOp& x) { return largest(cast(x, DType::kFloat64)); };
      const UOp of_start = size(s), difference = size(sub(r, s));
      const UOp scale = where(compare(Op::EQ, of_start, zero), size(end[i]), of_start);
      off = where(compare(Op::EQ, difference, zero), zero, div(difference, scale));
    } else {
      const UOp differs = largest(cast(compare(Op::NE, r, s), DType::kInt64));
      off = where(compare(Op::EQ, differs, constant_int(0)), constant(0.0),
                  constant(std::numeric_limits<double>::infinity()));
    }
    worst = make(Op::MAX, {worst, off});
  }
  return worst;
}

}  // namespace tinyphys
