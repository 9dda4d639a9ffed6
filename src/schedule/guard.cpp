#include "schedule/guard.hpp"

#include <unistd.h>

#include <fmt/format.h>

#include "propagate/jump.hpp"
#include "schedule/plan.hpp"
#include "support/cost_model.hpp"
#include "tinyphys/error.hpp"
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

// Throws where what is left after the sums of a gradient, a tape, cannot be.
void check_tape(const Node* propagate_vjp, const JumpNotes& notes) {
  const PropagateView view(propagate_vjp);
  double bytes = 0;
  for (Node* s : view.state()) bytes += static_cast<double>(bytes_of(s->dtype, s->shape()));
  bytes *= static_cast<double>(notes.steps);
  const double there =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (view.has_loop() && bytes < there) return;
  std::string why = view.has_loop()
                        ? fmt::format("a tape of {} steps takes {:.0f} GB, this machine has {:.0f}",
                                      notes.steps, bytes * 1e-9, there * 1e-9)
                        : std::string(name(view.integrator())) + " has no loop to go back through";
  for (const std::string& r : notes.refused) why += "; " + r;
  const auto where = locations(propagate_vjp);
  throw Error("gradient", why, where.empty() ? "" : where[0].file.c_str(), where.empty() ? 0 : where[0].line);
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
  if (!notes->jumped) check_tape(propagate_vjp.get(), *notes);
  Attempt a{.taken = notes->jumped,
            .notes = notes,
            .said = what_came(*notes),
            .of_each = notes->of_each,
            .of_largest = notes->of_largest};
  a.judge = [notes, propagate_vjp](double worst) {
    constexpr double kMost = 1e-9;
    notes->gradient_rounding = worst;
    notes->jumped = worst <= kMost;
    if (notes->jumped) return true;
    // A chain that drifts far, and its springs.
    notes->refused.push_back(fmt::format(
        "jump: the sums of the gradient cancel in it, it may be off by {:.0e} of its largest element",
        worst));
    check_tape(propagate_vjp.get(), *notes);
    return false;
  };
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
    std::vector<Dims> sums;
    for (Node* s : view.state()) {
      sums.push_back(shape_of(s));
      sums.back().insert(sums.back().begin(), view.rows());
    }
    for (Node* s : view.state()) sums.push_back(shape_of(s));
    out.push_back(
        {.name = "sums",
         .program = UOp::share(view.finish()),
         .between = std::move(sums),
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
