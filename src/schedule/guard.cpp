#include "schedule/guard.hpp"

#include "propagate/jump.hpp"
#include "schedule/plan.hpp"
#include "support/cost_model.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

std::string what_came(const JumpNotes& notes) {
  return std::to_string(notes.steps) + " steps: " +
         (notes.jumped            ? "jump, " + notes.structure
          : notes.refused.empty() ? "loop"
                                  : "loop, " + notes.refused.back());
}

Attempt try_to_jump(const UOp& propagate, const GuardInputs& inputs, std::span<void* const> outputs,
                    double budget_s) {
  const PropagateView view(propagate.get());
  std::vector<double*> out;
  for (void* o : outputs) out.push_back(static_cast<double*>(o));
  const auto notes = try_jump(propagate.get(), inputs.integer(0), inputs.values.subspan(1, view.n_state),
                              inputs.values.subspan(1 + view.n_state), out, view.has_loop() ? budget_s : 0);
  Attempt a{notes->jumped, notes};
  a.said = what_came(*notes);
  if (!view.has_loop()) {
    a.refused = "the jump cannot be made, and " + std::string(name(view.integrator())) + " has no loop";
    for (const std::string& r : notes->refused) a.refused += "; " + r;
  }
  return a;
}

// The sums of a gradient by what H is made of; what the program makes of them takes finish_s.
Attempt try_sums(const UOp& propagate_vjp, const GuardInputs& inputs, std::span<void* const> outputs,
                 double budget_s, double finish_s) {
  const PropagateView view(propagate_vjp.get());
  std::vector<double*> out;
  for (void* o : outputs) out.push_back(static_cast<double*>(o));
  const auto notes =
      try_gradient_sums(propagate_vjp.get(), inputs.integer(0), inputs.values.subspan(1, view.n_state),
                        inputs.values.subspan(1 + view.n_state, view.captured().size()),
                        inputs.values.last(view.n_cotangents), out, budget_s, finish_s);
  Attempt a{.taken = notes->jumped, .notes = notes, .said = what_came(*notes)};
  if (!view.has_loop()) {
    a.refused =
        "there are no sums of a gradient, and " + std::string(name(view.integrator())) + " has no loop";
    for (const std::string& r : notes->refused) a.refused += "; " + r;
  }
  return a;
}

double seconds_of_step(const Node* loop, const ScheduleOptions& options) {
  double t = 0;
  for (Node* n : toposort(loop->src())) {
    if (n->op != Op::SCAN) continue;
    const bool kernel = options.fits_kernel && options.fits_kernel(n);
    t += estimate_seconds(n->src(0)) + (kernel ? cost_model().scan_step_s : cost_model().loop_pass_s);
  }
  return t;
}

double seconds_to_compile(const Node* loop) {
  std::size_t nodes = 0;
  std::vector<const Node*> bodies{loop};
  while (!bodies.empty()) {
    const Node* body = bodies.back();
    bodies.pop_back();
    for (Node* n : toposort(body->src())) {
      nodes += is_elementwise(n->op) || n->op == Op::REDUCE || n->op == Op::MATMUL;
      if (n->op == Op::SCAN) bodies.push_back(n->src(0));
    }
  }
  return cost_model().kernel_compile_s + static_cast<double>(nodes) * cost_model().node_compile_s;
}

}  // namespace

std::int64_t GuardInputs::integer(std::size_t i) const {
  return values[i].data ? *static_cast<const std::int64_t*>(values[i].data) : values[i].scalar;
}

std::vector<Alternative> alternatives_of(const Node* propagate, const ScheduleOptions& options) {
  const PropagateView view(propagate);
  std::vector<Alternative> out;
  const UOp node = UOp::share(const_cast<Node*>(propagate));
  if (node->op == Op::PROPAGATE_VJP) {
    Dims one = shape_of(view.state()[0]), all = one;
    all.insert(all.begin(), view.rows());
    out.push_back(
        {.name = "sums",
         .program = UOp::share(view.finish()),
         .between = {all, all, one, one},
         .estimate = {},
         .attempt = [node, finish_s = estimate_seconds(view.finish())](
                        const GuardInputs& inputs, std::span<void* const> outputs, double budget_s) {
           return try_sums(node, inputs, outputs, budget_s, finish_s);
         }});
  } else {
    out.push_back(
        {.name = "jump",
         .attempt = [node](const GuardInputs& inputs, std::span<void* const> outputs, double budget_s) {
           return try_to_jump(node, inputs, outputs, budget_s);
         }});
  }
  if (view.has_loop())
    out.push_back(
        {.name = "loop",
         .program = UOp::share(view.loop()),
         .estimate = [step = seconds_of_step(view.loop(), options)](
                         const GuardInputs& inputs) { return step * static_cast<double>(inputs.integer(0)); },
         .compile_s = seconds_to_compile(view.loop())});
  return out;
}

}  // namespace tinyphys
