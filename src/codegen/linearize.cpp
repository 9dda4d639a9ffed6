#include "codegen/linearize.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <set>
#include <tuple>

#include "codegen/rangeify.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {

std::uint64_t Dependence::bit(const Node* range) const {
  const std::uint64_t* b = range_bits_.find(range);
  return b ? *b : 0;
}

Dependence::Dependence(const LoopNest& nest) {
  std::vector<Node*> roots;
  for (const UOp& r : nest.ranges) roots.push_back(r.get());
  for (const LoopNest::Block& b : nest.blocks) roots.push_back(b.block.get());
  for (const UOp& s : nest.stores) roots.push_back(s.get());
  order_ = toposort(roots);
  auto next_bit = [&] {
    if (n_bits_ == 64) throw Error("compile", "a kernel has more than 64 loops", "", 0);
    return std::uint64_t{1} << n_bits_++;
  };
  for (Node* n : order_) {
    Info i;
    if (n->op == Op::RANGE) {
      i.loops = next_bit();
      range_bits_.insert(n, i.loops);
    } else if (n->op == Op::STATE) {
      auto [it, fresh] = scan_bits_.try_emplace(n->arg(0), 0);
      if (fresh) it->second = next_bit();
      i.loops = it->second;
      if (n->arg(1) >= 0)  // each member has its own
        for (const UOp& r : nest.ranges) i.loops |= bit(r.get());
    } else {
      for (Node* s : n->src()) {
        i.loops |= info_.at(s).loops;
        i.stage = std::max(i.stage, info_.at(s).stage);
      }
      if (n->op == Op::ACCUMULATE) {
        for (std::size_t k = 1; k < n->n_src; ++k) i.loops &= ~bit(n->src(k));
        for (const LoopNest::Block& b : nest.blocks)  // its bounds move with the block
          for (std::size_t k = 1; k < n->n_src; ++k)
            if (n->src(k) == b.range.get()) i.loops |= bit(b.block.get());
        ++i.stage;
      }
      if (n->op == Op::LOOP) {
        if (auto it = scan_bits_.find(n->arg(0)); it != scan_bits_.end()) i.loops &= ~it->second;
        ++i.stage;
      }
    }
    info_.insert(n, i);
  }
}

std::optional<std::int64_t> stride(IndexMath& math, Node* index, const Node* range,
                                   const Dependence& dependence) {
  const std::uint64_t lane = dependence.bit(range);
  std::int64_t step = 0;
  for (auto [atom, k] : math.linear(index).terms) {
    if (atom == range)
      step = k;
    else if (dependence.loops(atom) & lane)
      return std::nullopt;
  }
  return step;
}

namespace {

bool is_even(const Linear& x) {
  return std::ranges::all_of(x.terms, [](const auto& t) { return t.second % 2 == 0; });
}

}  // namespace

bool reads_pairs(const Node* load, IndexMath& math) {
  return load->n_src == 2 && load->src(0)->size() % 2 == 0 && is_even(math.linear(load->src(1)));
}

std::map<const Node*, Node*> paired_stores(const LoopNest& nest, IndexMath& math) {
  std::map<const Node*, Node*> out;
  if (nest.lanes.empty()) return out;
  // By the output and what the index moves with, its even number: the two numbers of a pair differ by 1.
  using Place = std::tuple<std::int64_t, std::vector<std::pair<Node*, std::int64_t>>, std::int64_t>;
  std::map<Place, Node*> firsts;
  std::vector<std::pair<Place, Node*>> seconds;
  for (const UOp& s : nest.stores) {
    if (s->op != Op::STORE) continue;
    Linear at = math.linear(s->src(0));
    if (!is_even(at)) continue;
    const bool second = at.c % 2 != 0;
    Place place{s->arg(0), std::move(at.terms), at.c - (second ? 1 : 0)};
    if (second)
      seconds.emplace_back(std::move(place), s.get());
    else
      firsts[std::move(place)] = s.get();
  }
  for (const auto& [place, second] : seconds)
    if (const auto first = firsts.find(place); first != firsts.end()) out[first->second] = second;
  return out;
}

namespace {

class Linearizer {
 public:
  Linearizer(const LoopNest& nest, IndexMath& math) : nest_(nest), math_(math), dependence_(nest) {
    for (const auto& [range, lanes] : nest.lanes) lane_bits_ |= dependence_.bit(range);
    for (const auto& [first, second] : paired_stores(nest, math)) {
      const Node* r = lane_range(first);
      if (!r || lane_range(second) != r || stride(math_, first->src(0), r, dependence_) != 2) continue;
      second_of_[first] = second;
      is_second_.insert(second);
    }
  }

  Program run() {
    std::vector<Item> roots;
    for (const UOp& s : nest_.stores) {
      if (s->op == Op::LOOP) {
        roots.push_back({s.get(), false});
        continue;
      }
      for (const Item& i : store_items(s.get())) roots.push_back(i);
    }
    nest(nest_.ranges, roots, [&] {
      for (const UOp& s : nest_.stores)
        if (s->op == Op::STORE && !is_second_.contains(s.get())) store(s.get());
    });
    return std::move(program_);
  }

 private:
  // A value; `base`: a lane-dependent index taken at the first lane, as a scalar.
  struct Item {
    Node* node;
    bool base;
  };

  int emit(Instr i) {
    program_.code.push_back(std::move(i));
    return static_cast<int>(program_.code.size()) - 1;
  }
  int number(std::int64_t v) { return emit({.code = Code::kConst, .dtype = DType::kInt64, .imm = v}); }
  int op(Op o, DType d, std::vector<int> src, int lanes = 1, std::int64_t imm = 0) {
    return emit({.code = Code::kOp, .op = o, .dtype = d, .lanes = lanes, .src = std::move(src), .imm = imm});
  }

  Node* lane_range(const Node* n) const {
    const std::uint64_t on = dependence_.loops(n) & lane_bits_;
    if (!on) return nullptr;
    for (const auto& [range, lanes] : nest_.lanes)
      if (dependence_.bit(range) == on) return range;
    throw Error("compile", "two vector ranges meet", "", 0);
  }
  int lanes_of(const Node* n) const {
    Node* r = lane_range(n);
    return r ? nest_.lanes.at(r) : 1;
  }
  int mask_of(const Node* n) const {
    Node* r = lane_range(n);
    return r ? open_loops_.at(r) : -1;
  }
  Item normal(Node* n, bool base) const { return {n, base && (dependence_.loops(n) & lane_bits_)}; }

  int& slot(const Item& i) { return registers_[i.node][i.base]; }
  int reg(const Item& i) { return slot(i) - 1; }
  bool has(const Item& i) {
    const std::array<int, 2>* r = registers_.find(i.node);
    return r && (*r)[i.base] != 0;
  }
  void set(const Item& i, int r) {
    slot(i) = r + 1;
    log_.push_back(i);
  }

  // How a load or store moves from lane to lane.
  Access access_of(const Node* access, Node* index) {
    Node* r = lane_range(access);
    if (!r) return Access::kContiguous;
    const auto step = stride(math_, index, r, dependence_);
    if (step == 1) return Access::kContiguous;
    const bool pairs = access->op == Op::STORE ? second_of_.contains(access) : reads_pairs(access, math_);
    return step == 2 && pairs ? Access::kPairs : Access::kGather;
  }
  // The index of a lane, or that of the first lane, from which the others follow.
  Item index_item(const Node* access, Node* index) {
    return normal(index, lane_range(access) && access_of(access, index) != Access::kGather);
  }
  std::vector<Item> store_items(Node* s) {
    std::vector<Item> items{index_item(s, s->src(0)), {s->src(1), false}};
    if (const auto second = second_of_.find(s); second != second_of_.end())
      items.push_back({second->second->src(1), false});
    return items;
  }

  std::vector<Item> sources(const Item& i) {
    std::vector<Item> out;
    if (i.node->op == Op::LOAD) {
      out.push_back(index_item(i.node, i.node->src(1)));
      if (i.node->n_src > 2) out.push_back({i.node->src(2), false});
      return out;
    }
    if (i.node->op == Op::LOOP) {
      for (Node* s : i.node->src()) {
        if (s->op != Op::STORE)
          out.push_back({s, false});
        else
          for (const Item& x : store_items(s)) out.push_back(x);
      }
      return out;
    }
    const std::size_t n = i.node->op == Op::ACCUMULATE ? 1 : i.node->n_src;
    for (std::size_t k = 0; k < n; ++k) out.push_back(normal(i.node->src(k), i.base));
    return out;
  }

  // All that the roots need and that can be computed in the loops open now.
  void emit_ready(std::span<const Item> roots) {
    ++visit_;
    std::vector<Item> ready;
    struct Frame {
      Item item;
      bool expanded;
    };
    std::vector<Frame> stack;
    for (std::size_t i = roots.size(); i-- > 0;) stack.push_back({roots[i], false});
    while (!stack.empty()) {
      auto [item, expanded] = stack.back();
      stack.pop_back();
      if (expanded) {
        if ((dependence_.loops(item.node) & ~open_) == 0) ready.push_back(item);
        continue;
      }
      int& seen = visited_[item.node][item.base];
      if (seen == visit_ || has(item)) continue;
      seen = visit_;
      count_visited(1);
      stack.push_back({item, true});
      const std::vector<Item> src = sources(item);
      for (std::size_t i = src.size(); i-- > 0;) stack.push_back({src[i], false});
    }
    auto stage = [&](const Item& i) { return dependence_.stage(i.node); };
    auto runs_loops = [](const Item& i) { return i.node->op == Op::ACCUMULATE || i.node->op == Op::LOOP; };
    std::stable_sort(ready.begin(), ready.end(), [&](const Item& a, const Item& b) {
      return stage(a) != stage(b) ? stage(a) < stage(b) : runs_loops(a) && !runs_loops(b);
    });
    for (std::size_t i = 0; i < ready.size(); ++i) {
      if (has(ready[i])) continue;
      if (ready[i].node->op == Op::LOOP) {
        loop(ready[i].node);
      } else if (ready[i].node->op == Op::ACCUMULATE) {
        // Reductions over the same ranges that do not wait for each other share their loops.
        std::vector<Node*> group;
        for (std::size_t j = i; j < ready.size() && stage(ready[j]) == stage(ready[i]); ++j)
          if (ready[j].node->op == Op::ACCUMULATE && !has(ready[j]) &&
              same_ranges(ready[i].node, ready[j].node))
            group.push_back(ready[j].node);
        accumulate(group);
      } else {
        value(ready[i]);
      }
    }
  }

  static bool same_ranges(const Node* a, const Node* b) {
    return std::equal(a->src().begin() + 1, a->src().end(), b->src().begin() + 1, b->src().end());
  }

  template <class Body> void nest(std::span<const UOp> ranges, std::span<const Item> roots, Body&& body) {
    const std::uint64_t open_before = open_;
    std::vector<int> loops;
    std::vector<std::size_t> marks;
    for (const UOp& r : ranges) {
      emit_ready(roots);
      marks.push_back(log_.size());
      loops.push_back(open_loop(r.get()));
    }
    emit_ready(roots);
    body();
    for (std::size_t k = loops.size(); k-- > 0;) close_loop(loops[k], marks[k]);
    for (const UOp& r : ranges) open_loops_.erase(r.get());
    open_ = open_before;
  }

  int open_loop(Node* range) {
    int from = -1, to = -1;
    const std::int64_t extent = range->arg(1);
    const auto lanes = nest_.lanes.find(range);
    const int step = lanes == nest_.lanes.end() ? 1 : lanes->second;
    auto part = [&](int lo, int hi) {
      from = lo;
      to = op(Op::MIN, DType::kInt64, {hi, number(extent)});
    };
    const auto block = std::find_if(nest_.blocks.begin(), nest_.blocks.end(),
                                    [&](const LoopNest::Block& b) { return b.range.get() == range; });
    const bool short_blocks = block != nest_.blocks.end() && block->size % step != 0;
    if (range == nest_.parallel.get()) {
      const int grain = number(nest_.grain);
      const int begin = emit({.code = Code::kBegin, .dtype = DType::kInt64});
      const int end = emit({.code = Code::kFinish, .dtype = DType::kInt64});
      // One after the other: the order of arguments is the compiler's, and texts must not depend on it.
      const int lo = op(Op::MUL, DType::kInt64, {begin, grain});
      part(lo, op(Op::MUL, DType::kInt64, {end, grain}));
    } else if (block != nest_.blocks.end()) {
      const int size = number(block->size);
      const int lo = op(Op::MUL, DType::kInt64, {reg({block->block.get(), false}), size});
      part(lo, op(Op::ADD, DType::kInt64, {lo, size}));
    } else {
      from = number(0);
      to = number(extent);
    }
    const int loop = emit({.code = Code::kLoop,
                           .dtype = DType::kInt64,
                           .src = {from, to},
                           .step = step,
                           .masked = extent % step != 0 || short_blocks});
    open_loops_[range] = loop;
    open_ |= dependence_.bit(range);
    if (step > 1) {
      set({range, true}, loop);
      set({range, false}, emit({.code = Code::kLane, .dtype = DType::kInt64, .lanes = step, .src = {loop}}));
    } else {
      set({range, false}, loop);
    }
    return loop;
  }

  // `until`: a register; the loop ends where it is true. -1: none.
  void close_loop(int loop, std::size_t mark, int until = -1) {
    Instr end{.code = Code::kEnd, .src = {loop}};
    if (until >= 0) end.src.push_back(until);
    emit(std::move(end));
    while (log_.size() > mark) {
      slot(log_.back()) = 0;
      log_.pop_back();
    }
  }

  void value(const Item& item) {
    Node* n = item.node;
    const int lanes = item.base ? 1 : lanes_of(n);
    switch (n->op) {
      case Op::CONST: return set(item, emit({.code = Code::kConst, .dtype = n->dtype, .imm = n->arg(1)}));
      case Op::PARAM: return set(item, emit({.code = Code::kSlot, .dtype = n->dtype, .imm = n->arg(0)}));
      case Op::LOAD: {
        std::vector<int> src;
        for (const Item& i : sources(item)) src.push_back(reg(i));
        return set(item, emit({.code = Code::kLoad,
                               .dtype = n->dtype,
                               .lanes = lanes,
                               .src = std::move(src),
                               .imm = n->src(0)->arg(0),
                               .access = access_of(n, n->src(1)),
                               .loop = mask_of(n),
                               .odd = math_.linear(n->src(1)).c % 2 != 0,
                               .size = n->src(0)->size()}));
      }
      case Op::GET:
        return set(item, emit({.code = Code::kGet,
                               .dtype = n->dtype,
                               .lanes = lanes,
                               .src = {variables_[n->src(0)][static_cast<std::size_t>(n->arg(0))]}}));
      case Op::RANGE:
      case Op::STATE: throw Error("compile", "a loop variable outside its loop", "", 0);
      default: break;
    }
    std::vector<int> src;
    for (const Item& i : sources(item)) src.push_back(reg(i));
    set(item, emit({.code = Code::kOp,
                    .op = n->op,
                    .dtype = n->dtype,
                    .lanes = lanes,
                    .src = std::move(src),
                    .imm = n->n_arg ? n->arg(0) : 0,
                    .plain = math_.is_split(n)}));
  }

  void store(Node* s) {
    std::vector<int> src;
    for (const Item& i : store_items(s)) src.push_back(reg(i));
    const int lanes = lanes_of(s);
    const int loop = mask_of(s);
    const Access access = access_of(s, s->src(0));
    // Vectors begin at multiples of their length, unless the last one is cut off.
    const Linear at = math_.linear(s->src(0));
    const bool aligned = lanes > 1 && at.c == 0 && at.terms.size() == 1 && access != Access::kGather &&
                         at.terms[0].first == lane_range(s) &&
                         !program_.code[static_cast<std::size_t>(loop)].masked;
    emit({.code = Code::kStore,
          .dtype = s->src(1)->dtype,
          .lanes = lanes,
          .src = std::move(src),
          .imm = s->arg(0),
          .access = access,
          .loop = loop,
          .streams = nest_.streams && aligned});
  }

  void accumulate(const std::vector<Node*>& group) {
    Node* first = group[0];
    std::vector<UOp> ranges;
    Node* own_lane = nullptr;
    for (std::size_t k = 1; k < first->n_src; ++k) {
      ranges.push_back(first->src()[k] ? UOp::share(first->src(k)) : UOp());
      if (nest_.lanes.contains(first->src(k))) own_lane = first->src(k);
    }
    std::vector<int> vars;
    std::vector<Item> roots;
    for (Node* a : group) {
      const UOp identity = reduction_identity(static_cast<Reduction>(a->arg(0)), a->dtype);
      const int start = emit({.code = Code::kConst, .dtype = a->dtype, .imm = identity->arg(1)});
      const int lanes = own_lane ? nest_.lanes.at(own_lane) : lanes_of(a);
      vars.push_back(emit({.code = Code::kVar, .dtype = a->dtype, .lanes = lanes, .src = {start}}));
      roots.push_back({a->src(0), false});
    }
    nest(ranges, roots, [&] {
      for (std::size_t k = 0; k < group.size(); ++k) {
        Node* a = group[k];
        const int lanes = program_.code[static_cast<std::size_t>(vars[k])].lanes;
        const int old = emit({.code = Code::kGet, .dtype = a->dtype, .lanes = lanes, .src = {vars[k]}});
        const Op o = reduction_op(static_cast<Reduction>(a->arg(0)));
        const int sum = op(o, a->dtype, {old, reg(roots[k])}, lanes);
        emit({.code = Code::kSet,
              .dtype = a->dtype,
              .lanes = lanes,
              .src = {vars[k], sum},
              .loop = own_lane ? open_loops_.at(own_lane) : -1});
      }
    });
    for (std::size_t k = 0; k < group.size(); ++k) {
      Node* a = group[k];
      const int lanes = program_.code[static_cast<std::size_t>(vars[k])].lanes;
      int r = emit({.code = Code::kGet, .dtype = a->dtype, .lanes = lanes, .src = {vars[k]}});
      if (own_lane) r = emit({.code = Code::kAcross, .dtype = a->dtype, .src = {r}, .imm = a->arg(0)});
      set({a, false}, r);
    }
  }

  void loop(Node* n) {
    const auto count = static_cast<std::size_t>(n->arg(1));
    const int lanes = lanes_of(n);  // of members; what a masked lane holds is never stored
    std::vector<int>& vars = variables_[n];
    vars.clear();
    for (std::size_t k = 0; k < count; ++k)
      vars.push_back(emit({.code = Code::kVar,
                           .dtype = n->src(2 + k)->dtype,
                           .lanes = lanes,
                           .src = {reg({n->src(2 + k), false})}}));
    const int id = emit({.code = Code::kLoop,
                         .dtype = DType::kInt64,
                         .src = {reg({n->src(0), false}), reg({n->src(1), false})}});
    const std::size_t mark = log_.size();
    const std::uint64_t open_before = open_;
    std::vector<Item> roots;
    std::vector<Node*> stores;
    const bool has_until = n->n_arg > 2;
    for (std::size_t k = 2 + count; k < n->n_src; ++k) {
      if (n->src(k)->op == Op::STORE) {
        stores.push_back(n->src(k));
        for (const Item& i : store_items(n->src(k))) roots.push_back(i);
      } else {
        roots.push_back({n->src(k), false});
      }
    }
    for (Node* s : dependence_.order()) {
      if (s->op != Op::STATE || s->arg(0) != n->arg(0)) continue;
      open_ |= dependence_.loops(s);
      set({s, false}, s->arg(1) < 0 ? id
                                    : emit({.code = Code::kGet,
                                            .dtype = s->dtype,
                                            .lanes = lanes,
                                            .src = {vars[static_cast<std::size_t>(s->arg(1))]}}));
    }
    emit_ready(roots);
    for (Node* s : stores) store(s);
    for (std::size_t k = 0; k < count; ++k)
      emit({.code = Code::kSet,
            .dtype = n->src(2 + count + k)->dtype,
            .lanes = lanes,
            .src = {vars[k], reg({n->src(2 + count + k), false})}});
    close_loop(id, mark, has_until ? reg({n->src(2 + 2 * count), false}) : -1);
    open_ = open_before;
    set({n, false}, id);
  }

  const LoopNest& nest_;
  IndexMath& math_;
  Dependence dependence_;
  Program program_;
  std::uint64_t lane_bits_ = 0, open_ = 0;
  std::map<const Node*, Node*> second_of_;  // of pairs that are stored together
  std::set<const Node*> is_second_;
  std::map<Node*, int> open_loops_;
  NodeMap<std::array<int, 2>> registers_;  // 1 + register; 0: none
  NodeMap<std::array<int, 2>> visited_;
  int visit_ = 0;
  std::vector<Item> log_;
  std::map<Node*, std::vector<int>> variables_;
};

// Vector counters of loops that need only the scalar one, states that a step does not read.
Program drop_unused(Program p) {
  const std::size_t n = p.code.size();
  std::vector<bool> used(n, false);
  for (std::size_t i = n; i-- > 0;) {
    const Code c = p.code[i].code;
    const bool acts =
        c == Code::kLoop || c == Code::kEnd || c == Code::kStore || c == Code::kVar || c == Code::kSet;
    if (!used[i] && !acts) continue;
    used[i] = true;
    for (int s : p.code[i].src) used[static_cast<std::size_t>(s)] = true;
  }
  std::vector<int> number(n, -1);
  Program out;
  for (std::size_t i = 0; i < n; ++i) {
    if (!used[i]) continue;
    Instr instr = std::move(p.code[i]);
    for (int& s : instr.src) s = number[static_cast<std::size_t>(s)];
    if (instr.loop >= 0) instr.loop = number[static_cast<std::size_t>(instr.loop)];
    number[i] = static_cast<int>(out.code.size());
    out.code.push_back(std::move(instr));
  }
  return out;
}

}  // namespace

Program linearize(const LoopNest& nest, IndexMath& math) { return drop_unused(Linearizer(nest, math).run()); }

}  // namespace tinyphys
