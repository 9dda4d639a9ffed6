#include "analysis/symmetry.hpp"

#include <algorithm>

#include "uop/build.hpp"

namespace tinyphys {
namespace {

// Elements that an evaluation of H may have: some seconds for all symmetries together.
constexpr double kMostWork = 2e6;

// A body over the same params and some more, unknowns that stand for what is no polynomial. Its outputs are those of the energy,
// and the arguments of what the unknowns stand for.
struct Opened {
  UOp body;
  std::vector<std::string> through;
  std::string refused;
};

class Opening {
 public:
  Opening(const Node* body, std::span<const StateGroup> groups)
      : body_(body), depends_(state_dependence(body, groups)), next_(body->arg(0)) {}

  Opened run() {
    for (Node* n : toposort(body_->src())) now_.insert(n, opened(n));
    Opened out;
    if (!refused_.empty()) {
      out.refused = refused_;
      return out;
    }
    std::vector<UOp> outputs;
    for (Node* o : body_->src()) outputs.push_back(now_.at(o));
    for (const UOp& a : arguments_)
      if (std::find(outputs.begin(), outputs.end(), a) == outputs.end()) outputs.push_back(a);
    out.body = lambda_of(outputs, static_cast<std::size_t>(next_));
    out.through = through_;
    return out;
  }

 private:
  UOp unknown(const Node* like) { return param(next_++, like->dtype, like->shape()); }
  // Its value does not change when what it is made of does not.
  UOp cut(Node* n) {
    for (std::size_t i = 0; i < n->n_src; ++i) argument(n, i);
    note(n);
    return is_float(n->dtype) ? unknown(n) : UOp::share(n);
  }
  void argument(Node* n, std::size_t i) {
    Node* s = n->src(i);
    // What is no float is made by nodes like these: it does not change.
    if (depends_.at(s) && is_float(s->dtype)) arguments_.push_back(now_.at(s));
  }
  void note(const Node* n) {
    std::string kind(name(n->op));
    std::transform(kind.begin(), kind.end(), kind.begin(),
                   [](char c) { return static_cast<char>(c | 0x20); });
    if (std::find(through_.begin(), through_.end(), kind) == through_.end()) through_.push_back(kind);
  }
  UOp over_opened(Node* n) {
    std::vector<Node*> src;
    std::vector<UOp> held;
    for (Node* s : n->src()) {
      held.push_back(now_.at(s));
      src.push_back(held.back().get());
    }
    return with_sources(n, src);
  }

  UOp opened(Node* n) {
    if (n->op == Op::LAMBDA || n->op == Op::PARAM || !depends_.at(n)) return UOp::share(n);
    if (!is_float(n->dtype)) {
      if (n->dtype == DType::kVoid) {
        refused_ = std::string(name(n->op)) + " of the state is not looked into";
        return UOp::share(n);
      }
      return cut(n);
    }
    switch (n->op) {
      case Op::ADD:
      case Op::SUB:
      case Op::NEG:
      case Op::MUL:
      case Op::FMA:
      case Op::MATMUL:
      case Op::CUMSUM: return over_opened(n);
      case Op::REDUCE:
        if (n->arg(0) == static_cast<std::int64_t>(Reduction::kSum) ||
            n->arg(0) == static_cast<std::int64_t>(Reduction::kProd))
          return over_opened(n);
        return cut(n);
      case Op::POWI: return n->arg(0) > 0 ? over_opened(n) : cut(n);
      case Op::CAST:
        return n->dtype == DType::kFloat64 && is_float(n->src(0)->dtype) ? over_opened(n) : cut(n);
      case Op::DIV: {
        if (!depends_.at(n->src(1))) return over_opened(n);
        // The divisor does not change: it is an unknown, too.
        argument(n, 1);
        note(n);
        return div(now_.at(n->src(0)), unknown(n->src(1)));
      }
      case Op::WHERE: return select(n);
      case Op::GATHER:
      case Op::SCATTER_ADD:
        if (depends_.at(n->src(1))) {
          refused_ = "an index that depends on the state";
          return UOp::share(n);
        }
        return over_opened(n);
      case Op::GET:
        refused_ = std::string(name(n->src(0)->op)) + " of the state is not looked into";
        return UOp::share(n);
      default: return is_movement(n->op) ? over_opened(n) : cut(n);
    }
  }

  // u a + v b with unknowns in place of the condition, as large as what the condition is repeated from: what holds for all u and v
  // holds for 1 and 0, whichever way it goes. A condition of the state is made of what does not change.
  UOp select(Node* n) {
    Node* condition = n->src(0);
    while (condition->op == Op::EXPAND) condition = condition->src(0);
    Dims aligned = shape_of(condition);
    const auto weight = [&] { return broadcast_to(param(next_++, n->dtype, aligned), n->shape()); };
    const UOp u = weight(), v = weight();
    note(n);
    return add(mul(u, now_.at(n->src(1))), mul(v, now_.at(n->src(2))));
  }

  const Node* body_;
  NodeMap<char> depends_;
  std::int64_t next_;
  NodeMap<UOp> now_;
  std::vector<UOp> arguments_;
  std::vector<std::string> through_;
  std::string refused_;
};

}  // namespace

std::vector<Symmetry> find_symmetries(const Node* body, const Constants& constants,
                                      std::span<const std::int64_t> shape, std::size_t n_batch,
                                      std::span<const std::string> names) {
  std::vector<Symmetry> out;
  const std::size_t rank = shape.size() - n_batch;
  std::int64_t size = 1;
  for (const std::int64_t n : shape) size *= n;
  if (rank < 1 || rank > 2 || size == 0 || (rank == 2 && shape.back() > 3)) return out;
  const bool in_line = rank == 1;
  const std::int64_t d = in_line ? 1 : shape.back();
  const auto add_change = [&](StateChange::Kind kind, std::int64_t first, std::int64_t second) {
    Symmetry s;
    s.change = {kind, first, second, n_batch, in_line};
    out.push_back(std::move(s));
  };
  for (std::int64_t a = 0; a < d; ++a) add_change(StateChange::Kind::kShift, a, a);
  if (d == 2) add_change(StateChange::Kind::kRotate, 0, 1);
  if (d == 3)
    for (std::int64_t a = 0; a < 3; ++a) add_change(StateChange::Kind::kRotate, (a + 1) % 3, (a + 2) % 3);
  add_change(StateChange::Kind::kMirror, 0, 0);

  std::vector<StateGroup> groups(static_cast<std::size_t>(body->arg(0)), StateGroup::kNone);
  groups[0] = StateGroup::kQ;
  groups[1] = StateGroup::kP;
  // The terms together: one may take back what another does.
  UOp total;
  for (Node* o : body->src()) total = total ? add(total, UOp::share(o)) : UOp::share(o);
  const UOp sum = with_outputs(body, std::span<const UOp>(&total, 1));
  const Opened opened = Opening(sum.get(), groups).run();
  std::string refused = opened.refused;
  if (refused.empty() && evaluation_work(opened.body.get()) > kMostWork)
    refused = "H is too large to be tested";
  if (!refused.empty()) {
    for (Symmetry& s : out) s.reason = refused;
    return out;
  }
  groups.resize(static_cast<std::size_t>(opened.body->arg(0)), StateGroup::kNone);
  for (Symmetry& s : out) {
    InvarianceTest test = test_invariance(opened.body.get(), groups, constants, shape, s.change);
    s.holds = test.holds;
    s.needed_values = test.needed_values;
    s.error_probability = test.error_probability;
    s.through = opened.through;
    if (test.holds) continue;
    const std::vector<std::string> own(names.begin(), names.end());
    s.reason =
        !test.reason.empty() ? test.reason : located_infix(opened.body->src(test.culprit), own) + " changes";
  }
  return out;
}

}  // namespace tinyphys
