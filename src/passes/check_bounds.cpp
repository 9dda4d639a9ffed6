#include "passes/check_bounds.hpp"

#include <algorithm>
#include <vector>

#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// An index into an axis of `extent`, seen at some level of loops.
struct Access {
  UOp index;
  std::int64_t extent;
  Op op;
  std::uint32_t location;
};
using Accesses = std::vector<Access>;

void add_once(Accesses& to, Access a) {
  const auto same = [&](const Access& b) { return b.index == a.index && b.extent == a.extent; };
  if (std::none_of(to.begin(), to.end(), same)) to.push_back(std::move(a));
}

UOp number_like(const UOp& x, std::int64_t v) { return broadcast_to(constant_int(v), x->shape()); }
UOp in_range(const UOp& index, std::int64_t n) {
  return make(Op::AND, {compare(Op::LE, number_like(index, -n), index),
                        compare(Op::LT, index, number_like(index, n))});
}

// The first index that is out of range, else the last one.
UOp first_wrong(const Access& a) {
  const std::int64_t n = a.index->size();
  const UOp index = reshape(cast(a.index, DType::kInt64), Dims{n});
  if (n == 1) return reshape(index, Dims{});
  const UOp place = where(in_range(index, a.extent), number_like(index, n - 1), iota(n));
  return make(Op::GATHER, {index, reduce(Reduction::kMin, place, Dims{0})}, {std::int64_t{0}});
}

UOp checked(UOp value, const Accesses& accesses) {
  for (const Access& a : accesses) {
    LocationScope at(a.location);
    value = make(
        Op::CHECK, {value, first_wrong(a)},
        {static_cast<std::int64_t>(CheckKind::kIndexInRange), a.extent, static_cast<std::int64_t>(a.op)});
  }
  return value;
}

// How a value of a loop's body changes from step to step.
enum class Course { kFixed, kLinear, kAny };  // kLinear: by the same amount each step

Course course_of(const Node* n, const NodeMap<Course>& known) {
  Course most = Course::kFixed;
  if (n->op == Op::LAMBDA) return most;
  for (Node* s : n->src()) most = std::max(most, known.at(s));
  if (most == Course::kFixed) return most;
  const bool narrows = n->op == Op::CAST && n->dtype != DType::kInt64;
  const bool keeps =
      n->op == Op::ADD || n->op == Op::SUB || n->op == Op::NEG ||
      (n->op == Op::CAST && is_integer(n->src(0)->dtype)) || is_movement(n->op) ||
      (n->op == Op::MUL && (known.at(n->src(0)) == Course::kFixed || known.at(n->src(1)) == Course::kFixed));
  return keeps && !narrows && is_integer(n->dtype) ? most : Course::kAny;
}

class Bounds {
 public:
  // A program, in which a CHECK may stand anywhere.
  UOp program(const UOp& lambda) {
    return with_outputs(lambda.get(), level(outputs_of(lambda.get()), nullptr));
  }

 private:
  // A loop that also gives its wrong indices.
  struct Loop {
    UOp node;
    std::int64_t n_carry = 0, added = 0;
    Accesses after;  // of what it gives
  };

  bool indexes(const Node* lambda) {
    if (const char* known = indexes_.find(lambda)) return *known;
    bool found = false;
    for (Node* n : toposort(lambda->src())) {
      found |= n->op == Op::GATHER || n->op == Op::SCATTER_ADD;
      if (n->op == Op::SCAN) found |= indexes(n->src(0));
      if (n->op == Op::PROPAGATE || n->op == Op::PROPAGATE_VJP) found |= indexes(PropagateView(n).map());
    }
    indexes_.insert(lambda, found);
    return found;
  }

  // The roots with their accesses checked; within a loop (`found` given) they are appended to it instead.
  std::vector<UOp> level(const std::vector<UOp>& roots, Accesses* found) {
    NodeMap<Loop> loops;
    const auto collect = [&](const Accesses& more) {
      for (const Access& a : more) add_once(*found, a);
    };
    return rebuild(
        roots, {.ready = [&](Node* n) -> UOp {
                  const Loop* loop = n->op == Op::GET ? loops.find(n->src(0)) : nullptr;
                  if (!loop) return {};
                  const std::int64_t i = n->arg(0);
                  const UOp value = get(loop->node, i < loop->n_carry ? i : i + loop->added);
                  return found ? value : checked(value, loop->after);
                },
                .after = [&](Node* n, const UOp& now) -> UOp {
                  switch (n->op) {
                    case Op::GATHER:
                    case Op::SCATTER_ADD: {
                      if (n->src(1)->size() == 0) return {};
                      const Accesses own{{now.src(1), n->src(0)->shape()[static_cast<std::size_t>(n->arg(0))],
                                          n->op, first_location(n)}};
                      if (!found) return checked(now, own);
                      collect(own);
                      return {};
                    }
                    case Op::SCAN: {
                      if (!indexes(n->src(0))) return {};
                      Accesses before;
                      Loop loop = scan(now, before);
                      if (found) {
                        collect(before);
                        collect(loop.after);
                      } else {
                        loop.node = with_checked_source(loop.node, 2, before);
                      }
                      const UOp node = loop.node;
                      loops.insert(n, std::move(loop));
                      return node;
                    }
                    case Op::PROPAGATE:
                    case Op::PROPAGATE_VJP: {
                      const PropagateView view(n);
                      if (!indexes(view.map())) return {};
                      const Accesses before = of_map(now);
                      if (!found) return with_checked_source(now, view.first + 1, before);
                      collect(before);
                      return {};
                    }
                    default: return {};
                  }
                }});
  }

  static UOp with_checked_source(const UOp& node, std::size_t i, const Accesses& accesses) {
    if (accesses.empty()) return node;
    std::vector<Node*> src(node->src().begin(), node->src().end());
    const UOp first = checked(node.src(i), accesses);
    src[i] = first.get();
    LocationScope at(first_location(node.get()));
    return with_sources(node.get(), src);
  }

  // The values at the level of a loop of what its body says of fixed values.
  static UOp outside(const UOp& value, const std::vector<UOp>& params, const std::vector<UOp>& values) {
    NodeMap<UOp> actual;
    for (std::size_t i = 0; i < params.size(); ++i) actual.insert(params[i].get(), values[i]);
    return substitute(value, [&](Node* n) {
      const UOp* v = actual.find(n);
      return v ? *v : UOp();
    });
  }

  Loop scan(const UOp& node, Accesses& before) {
    LocationScope at(first_location(node.get()));
    ScanParts s = open_scan(node.get());
    std::vector<UOp> roots = s.next;
    roots.insert(roots.end(), s.outs.begin(), s.outs.end());
    if (s.until) roots.push_back(s.until);
    Accesses inside;
    roots = level(roots, &inside);
    const auto outs = roots.begin() + static_cast<std::ptrdiff_t>(s.next.size());
    std::copy(outs, outs + static_cast<std::ptrdiff_t>(s.outs.size()), s.outs.begin());
    if (s.until) s.until = roots.back();
    s.next.assign(roots.begin(), outs);

    NodeMap<Course> course;
    course.insert(s.index.get(), Course::kLinear);
    for (const auto* changing : {&s.carry_params, &s.row_params})
      for (const UOp& p : *changing) course.insert(p.get(), Course::kAny);
    std::vector<Node*> indices;
    for (const Access& a : inside) indices.push_back(a.index.get());
    for (Node* n : toposort(indices))
      if (!course.contains(n)) course.insert(n, course_of(n, course));

    const UOp zero = constant_int(0), steps = s.steps;
    const UOp last = make(Op::MAX, {sub(steps, constant_int(1)), zero});
    Loop loop;
    loop.n_carry = static_cast<std::int64_t>(s.carry.size());
    std::vector<Access> carried;
    for (Access& a : inside) {
      const Course c = course.at(a.index.get());
      const bool ends = c == Course::kLinear && !s.until;
      if ((c != Course::kFixed && !ends) || s.carry.empty()) {
        const UOp seen = symbol(DType::kInt64, {});
        s.next.push_back(where(in_range(seen, a.extent), first_wrong(a), seen));
        s.carry_params.push_back(seen);
        s.carry.push_back(zero);
        carried.push_back(a);
        continue;
      }
      std::vector<UOp> params = s.captured_params, values = s.captured;
      if (ends) params.push_back(s.index);
      for (const UOp& step : ends ? std::vector<UOp>{zero, last} : std::vector<UOp>{UOp()}) {
        if (ends) values.push_back(step);
        add_once(before, {outside(a.index, params, values), a.extent, a.op, a.location});
        if (ends) values.pop_back();
      }
    }
    loop.added = static_cast<std::int64_t>(carried.size());
    loop.node = make_scan(s);
    for (std::int64_t i = 0; i < loop.added; ++i) {
      const Access& a = carried[static_cast<std::size_t>(i)];
      loop.after.push_back({get(loop.node, loop.n_carry + i), a.extent, a.op, a.location});
    }
    return loop;
  }

  // The map of a jump is affine in the state: no index of it depends on the state.
  Accesses of_map(const UOp& node) {
    const PropagateView view(node.get());
    std::vector<UOp> params, captured_params, captured;
    for (Node* x : view.state()) params.push_back(symbol_like(x));
    for (Node* x : view.captured()) {
      captured.push_back(UOp::share(x));
      captured_params.push_back(symbol_like(x));
    }
    params.insert(params.end(), captured_params.begin(), captured_params.end());
    Accesses inside, out;
    level(tinyphys::apply(view.map(), params), &inside);
    for (const Access& a : inside)
      add_once(out, {outside(a.index, captured_params, captured), a.extent, a.op, a.location});
    return out;
  }

  NodeMap<char> indexes_;
};

}  // namespace

UOp pass_check_bounds(const UOp& program) { return Bounds().program(program); }

}  // namespace tinyphys
