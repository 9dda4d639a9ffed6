#include <algorithm>

#include "schedule/fusion.hpp"
#include "schedule/plan.hpp"
#include "support/cost_model.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// Values up to this size that no data enters (fills, h / 2) are made by the host: that costs less than a kernel.
constexpr std::int64_t kHostFill = 1 << 14, kHostScalars = 16;

class Scheduler {
 public:
  Scheduler(const Node* program, const ScheduleOptions& options) : program_(program), options_(options) {}

  std::shared_ptr<Plan> run() {
    const auto roots = program_->src();
    const std::vector<Node*> order = toposort(roots);
    number_params(order);
    find_numbers(order);
    const Fusion fusion = fuse(roots, options_.fuse);
    // Steps in order of level: whole ops and kernels whose inputs are ready.
    for (const FusionGroup& g : fusion.groups) emit(g);
    for (Node* r : roots) plan_->results.push_back(slot_of(r));
    plan_memory(*plan_);
    return plan_;
  }

 private:
  void number_params(std::span<Node* const> order) {
    plan_->params.resize(static_cast<std::size_t>(program_->arg(0)));
    for (Node* n : order) {
      if (n->op != Op::PARAM) continue;
      const auto i = static_cast<std::size_t>(n->arg(0));
      const Slot s{n->dtype, shape_of(n), -1};
      if (n->arg(2)) {
        plan_->params[i] = {static_cast<int>(plan_->scalars.size()), true};
        plan_->scalars.push_back(s);
      } else {
        plan_->params[i] = {static_cast<int>(plan_->slots.size()), false};
        slots_.insert(n, plan_->params[i].index);
        plan_->slots.push_back(s);
      }
      seen_.push_back(static_cast<std::int64_t>(i));
    }
    // A param nobody reads: an operand that points nowhere.
    std::sort(seen_.begin(), seen_.end());
    for (std::size_t i = 0; i < plan_->params.size(); ++i)
      if (!std::binary_search(seen_.begin(), seen_.end(), static_cast<std::int64_t>(i)))
        plan_->params[i] = {-1, false};
  }

  // What is made of numbers alone: constants, scalar arguments, and a little arithmetic on them.
  void find_numbers(std::span<Node* const> order) {
    for (Node* n : order) {
      const bool number = n->op == Op::CONST || n->op == Op::IOTA || (n->op == Op::PARAM && n->arg(2));
      const bool small = is_elementwise(n->op) && n->size() <= kHostScalars;
      if (number ||
          ((small || is_movement(n->op)) &&
           std::all_of(n->src().begin(), n->src().end(), [&](Node* s) { return numbers_.contains(s); })))
        numbers_.insert(n, 1);
    }
  }
  bool is_host_value(const Node* root) const { return root->size() <= kHostFill && numbers_.contains(root); }

  int new_slot(const Node* n) {
    plan_->slots.push_back({n->dtype, shape_of(n), -1});
    return static_cast<int>(plan_->slots.size()) - 1;
  }

  int slot_of(const Node* n) {
    if (const int* s = slots_.find(n)) return *s;
    // A scalar argument or a number wanted as a buffer: copied by the host.
    PlanStep step;
    step.kind = PlanOp::kHost;
    std::vector<UOp> body{n->op == Op::PARAM ? param(0, n->dtype, n->shape(), true)
                                             : UOp::share(const_cast<Node*>(n))};
    const std::int64_t n_params = n->op == Op::PARAM;
    step.code = make(Op::LAMBDA, std::span<const UOp>(body), std::span<const std::int64_t>(&n_params, 1));
    if (n_params) step.inputs.push_back(plan_->params[static_cast<std::size_t>(n->arg(0))]);
    const int slot = new_slot(n);
    step.outputs.push_back(slot);
    plan_->steps.push_back(std::move(step));
    slots_.insert(n, slot);
    return slot;
  }

  Operand operand_of(const Node* n, bool scalars_allowed) {
    if (n->op == Op::PARAM && n->arg(2) && scalars_allowed)
      return plan_->params[static_cast<std::size_t>(n->arg(0))];
    return {slot_of(n), false};
  }

  void emit(const FusionGroup& g) {
    if (g.whole)
      emit_whole(g.whole, g.roots);
    else
      emit_kernel(g.roots);
  }

  void emit_kernel(const std::vector<Node*>& roots) {
    PlanStep step;
    std::vector<UOp> outputs;
    for (Node* r : roots) outputs.push_back(UOp::share(r));
    const bool on_host = std::all_of(roots.begin(), roots.end(), [&](Node* r) { return is_host_value(r); }) ||
                         is_host_only(roots[0]);
    NodeMap<UOp> params;
    const auto body = substitute(outputs, [&](Node* n) -> UOp {
      if (std::find(roots.begin(), roots.end(), n) != roots.end() && n->op != Op::PARAM) return {};
      const bool ready = n->op == Op::PARAM || slots_.contains(n);
      if (!ready) return {};
      if (const UOp* p = params.find(n)) return *p;
      const Operand from = operand_of(n, true);
      UOp p = param(static_cast<std::int64_t>(step.inputs.size()), n->dtype, n->shape(), from.scalar);
      step.inputs.push_back(from);
      params.insert(n, p);
      return p;
    });
    const auto n_params = static_cast<std::int64_t>(step.inputs.size());
    step.kind = on_host ? PlanOp::kHost : PlanOp::kKernel;
    step.code = make(Op::LAMBDA, std::span<const UOp>(body), std::span<const std::int64_t>(&n_params, 1));
    for (Node* r : roots) {
      const int slot = new_slot(r);
      step.outputs.push_back(slot);
      slots_.insert(r, slot);
    }
    plan_->steps.push_back(std::move(step));
  }

  void emit_whole(Node* n, const std::vector<Node*>& gets) {
    switch (n->op) {
      case Op::SCAN: return emit_scan(n, gets);
      case Op::PROPAGATE:
      case Op::PROPAGATE_VJP: {
        const PropagateView view(n);
        PlanStep step;
        step.kind = PlanOp::kGuard;
        step.code = UOp::share(n);
        step.alternatives = alternatives_of(n, options_);
        for (std::size_t i = view.first; i < n->n_src; ++i)
          step.inputs.push_back(operand_of(n->src(i), true));
        const bool back = n->op == Op::PROPAGATE_VJP;
        const auto made = back ? view.finish()->src() : view.state();
        place_outputs(step, gets, made.size());
        for (std::size_t i = 0; i < step.outputs.size(); ++i)  // an alternative makes them all
          if (step.outputs[i] < 0) step.outputs[i] = new_slot(made[i]);
        plan_->has_guard = true;
        plan_->steps.push_back(std::move(step));
        return;
      }
      case Op::CHECK: {
        PlanStep step;
        step.kind = PlanOp::kCheck;
        step.code = UOp::share(n);
        plan_->has_guard |= static_cast<CheckKind>(n->arg(0)) == CheckKind::kProjected;  // it notes something
        for (Node* s : n->src()) step.inputs.push_back({slot_of(s), false});
        const auto kind = static_cast<CheckKind>(n->arg(0));
        plan_->has_guard |= kind == CheckKind::kStartMissed || kind == CheckKind::kAdjointGrew;
        return place_output(std::move(step), n);
      }
      default: return emit_call(n);
    }
  }

  void emit_call(Node* n) {
    PlanStep step;
    step.kind = PlanOp::kCall;
    step.call = call_of(n->op);
    if (!step.call) throw Error("schedule", "no way to run " + std::string(name(n->op)), "", 0);
    // A CAT takes the parts of those inside it; a RESHAPE has the same bytes.
    std::vector<UOp> parts;
    std::vector<Node*> todo(n->src().rbegin(), n->src().rend());
    while (!todo.empty()) {
      Node* s = todo.back();
      todo.pop_back();
      if (s->op == Op::CAT && n->op == Op::CAT && !slots_.contains(s)) {
        todo.insert(todo.end(), s->src().rbegin(), s->src().rend());
        continue;
      }
      parts.push_back(UOp::share(s));
      while (s->op == Op::RESHAPE && !slots_.contains(s)) s = s->src(0);
      step.inputs.push_back(operand_of(s, true));
    }
    step.code = parts.size() == n->n_src ? UOp::share(n) : make(n->op, parts, n->arg());
    place_output(std::move(step), n);
  }

  void place_output(PlanStep step, const Node* n) {
    const int slot = new_slot(n);
    slots_.insert(n, slot);
    step.outputs.push_back(slot);
    plan_->steps.push_back(std::move(step));
  }

  void place_outputs(PlanStep& step, const std::vector<Node*>& gets, std::size_t n_outputs) {
    step.outputs.assign(n_outputs, -1);
    for (Node* g : gets) {
      const int slot = new_slot(g);
      slots_.insert(g, slot);
      step.outputs[static_cast<std::size_t>(g->arg(0))] = slot;
    }
  }

  void emit_scan(Node* n, const std::vector<Node*>& gets) {
    const ScanView scan(n);
    PlanStep step;
    // A kernel takes its number of steps as a number, not from memory.
    const Node* count = scan.steps();
    const bool counted = count->op == Op::CONST || (count->op == Op::PARAM && count->arg(2));
    if (options_.fuse && counted && options_.fits_kernel && options_.fits_kernel(n)) {
      // One kernel: LAMBDA over the sources, outputs the wanted GETs.
      std::vector<Node*> sources;
      NodeMap<UOp> params;
      std::vector<UOp> src{UOp::share(scan.body())};
      for (std::size_t i = 1; i < n->n_src; ++i) {
        Node* s = n->src(i);
        if (s->op == Op::CONST) {
          src.push_back(UOp::share(s));
          continue;
        }
        if (!params.contains(s)) {
          const Operand from = operand_of(s, true);
          params.insert(
              s, param(static_cast<std::int64_t>(step.inputs.size()), s->dtype, s->shape(), from.scalar));
          step.inputs.push_back(from);
        }
        src.push_back(*params.find(s));
      }
      const UOp inner = make(Op::SCAN, std::span<const UOp>(src), n->arg());
      std::vector<UOp> outputs;
      for (Node* g : gets) {
        outputs.push_back(get(inner, g->arg(0)));
        const int slot = new_slot(g);
        step.outputs.push_back(slot);
        slots_.insert(g, slot);
      }
      const auto n_params = static_cast<std::int64_t>(step.inputs.size());
      step.code =
          make(Op::LAMBDA, std::span<const UOp>(outputs), std::span<const std::int64_t>(&n_params, 1));
      step.kind = PlanOp::kKernel;
      step.scan_kernel = true;
      plan_->steps.push_back(std::move(step));
      return;
    }
    step.kind = PlanOp::kLoop;
    step.code = UOp::share(n);
    step.n_carry = scan.n_carry;
    step.n_xs = scan.n_xs;
    step.n_out = scan.n_out;
    step.has_until = scan.has_until;
    step.inputs.push_back(operand_of(scan.steps(), true));
    for (std::size_t i = 2; i < n->n_src; ++i) step.inputs.push_back({slot_of(n->src(i)), false});
    step.body = schedule(scan.body(), options_);
    plan_->has_guard |= step.body->has_guard;
    place_outputs(step, gets, scan.n_carry + scan.n_out);
    plan_->steps.push_back(std::move(step));
  }

  const Node* program_;
  ScheduleOptions options_;
  std::shared_ptr<Plan> plan_ = std::make_shared<Plan>();
  NodeMap<int> slots_;
  NodeMap<char> numbers_;
  std::vector<std::int64_t> seen_;
};

}  // namespace

std::shared_ptr<Plan> schedule(const Node* program, const ScheduleOptions& options) {
  return Scheduler(program, options).run();
}

std::string step_name(const PlanStep& step) {
  std::string out(step.scan_kernel ? "scan kernel" : step.call ? step.call->name : name(step.kind));
  for (const Alternative& a : step.alternatives)
    out += (&a == step.alternatives.data() ? " " : " or ") + a.name;
  return out;
}

std::string to_text(const Plan& plan, const std::string& indent) {
  auto slot_text = [&](int i) {
    const Slot& s = plan.slots[static_cast<std::size_t>(i)];
    return "b" + std::to_string(i) + ":" + std::string(name(s.dtype)) + shape_text(s.shape);
  };
  std::string out;
  for (const PlanStep& s : plan.steps) {
    out += indent + step_name(s);
    for (const Operand& i : s.inputs)
      out += i.scalar ? " s" + std::to_string(i.index) : i.index < 0 ? " -" : " b" + std::to_string(i.index);
    out += " ->";
    for (int o : s.outputs) out += o < 0 ? " -" : " " + slot_text(o);
    out += "\n";
    if (s.body) out += to_text(*s.body, indent + "  ");
  }
  return out;
}

double estimate_seconds(const Node* lambda) {
  const CostModel& cost = cost_model();
  double t = 0;
  for (Node* n : toposort(lambda->src())) {
    const auto size = static_cast<double>(n->size());
    if (n->op == Op::MATMUL)
      t += size * static_cast<double>(n->src(0)->shape().back()) * cost.multiply_add_s;
    else if (is_fft(n->op))
      t += fft_work(n) * cost.fft_point_s;
    else if (n->op == Op::REDUCE)
      t += static_cast<double>(n->src(0)->size()) * cost.op_s;
    else if (traits(n->op).cls == OpClass::kUnary && n->op != Op::NEG && n->op != Op::CAST &&
             n->op != Op::POWI)
      t += size * cost.call_s;
    else if (is_elementwise(n->op))
      t += size * cost.op_s;
  }
  return t;
}

}  // namespace tinyphys
