#include "engine/pipeline.hpp"

#include <algorithm>
#include <array>
#include <source_location>
#include <string_view>

#include "codegen/kernel.hpp"
#include "derive/complex.hpp"
#include "derive/fixed_point.hpp"
#include "derive/lower_evolve.hpp"
#include "derive/scan_tape.hpp"
#include "passes/carry_over.hpp"
#include "passes/check_bounds.hpp"
#include "passes/fast_level.hpp"
#include "passes/hoist_flows.hpp"
#include "passes/loop_lift.hpp"
#include "passes/scan_lift.hpp"
#include "rewrite/rewrite.hpp"
#include "schedule/plan.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/print.hpp"
#include "uop/scan_layout.hpp"
#include "uop/spec.hpp"

namespace tinyphys {
namespace {

// The program with the outputs f(n) in place of GETs of each n of this op, where f gives some; f sees nodes whose sources
// are replaced.
template <class F> UOp replace_gets(const UOp& program, Op op, F&& f) {
  NodeMap<std::vector<UOp>> made;
  return rebuild(program, {.ready = [&](Node* n) -> UOp {
                             const auto* of = n->op == Op::GET ? made.find(n->src(0)) : nullptr;
                             return of ? (*of)[static_cast<std::size_t>(n->arg(0))] : UOp();
                           },
                           .after = [&](Node* n, const UOp& now) -> UOp {
                             if (n->op != op) return {};
                             if (std::vector<UOp> outputs = f(now.get()); !outputs.empty())
                               made.insert(n, std::move(outputs));
                             return {};
                           }});
}

// A step given as data must be a number: told here once, whatever the evolution becomes.
UOp check_steps(const UOp& program) {
  return rebuild(program, {.after = [](Node*, const UOp& now) -> UOp {
                   if (now->op != Op::EVOLVE && now->op != Op::EVOLVE_VJP) return {};
                   const UOp dt = now.src(1);
                   const bool number = is_const(dt.get()) ||
                                       (dt->op == Op::PARAM && dt->arg(2) != 0);  // checked when it was given
                   if (number || dt->op == Op::CHECK) return {};
                   std::vector<Node*> src(now->src().begin(), now->src().end());
                   const UOp zero = sub(dt, dt);  // NaN unless dt is finite
                   const UOp checked = make(Op::CHECK, {dt, compare(Op::EQ, zero, zero)},
                                            {static_cast<std::int64_t>(CheckKind::kStepFinite)});
                   src[1] = checked.get();
                   return with_sources(now.get(), src);
                 }});
}

// First of all: what comes after it knows real numbers only.
UOp pass_complex(const UOp& program, const PipelineOptions&) { return lower_complex_program(program); }

UOp pass_simplify(const UOp& program, const PipelineOptions&) {
  return with_outputs(program.get(), simplify(outputs_of(program.get())));
}

// A loop within a step that takes no longer than what a jump costs beside its arithmetic. It stays in one kernel with the
// step around it.
bool is_short(const Node* scan) {
  const ScanView s(scan);
  constexpr double kJump_s = 2e-5;
  return !is_const(s.steps()) ||
         static_cast<double>(const_int(s.steps())) * estimate_seconds(s.body()) < kJump_s;
}

// Gradients of evolutions and scans: of a quadratic H or an affine step without a tape where a pass can; else by a tape of the
// carries.
UOp lower_derivatives(const UOp& program, const PipelineOptions& options) {
  const auto lift = [&](const Node* vjp, const std::vector<bool>& wanted) -> std::vector<UOp> {
    if (vjp->op == Op::SCAN_VJP) {
      if (!options.physics || !options.lift_scans) return {};
      // In a step around it, a short loop with its tape stays in one kernel with that.
      const bool inside = options.step || (vjp->flags & Node::kHasSym) != 0;
      return lift_scan_gradient(vjp, wanted, !inside || !is_short(vjp));
    }
    if (!options.physics && EvolveVjpView(vjp).row().has_loop()) return {};
    return lift_gradient(vjp, wanted);
  };
  return with_outputs(program.get(), lower_vjps(outputs_of(program.get()), lift));
}

bool contains_evolution(const UOp& program) {
  for (Node* n : toposort(program))
    if (n->op == Op::EVOLVE || n->op == Op::EVOLVE_VJP || n->op == Op::SCAN_VJP) return true;
  return false;
}

// Before scans are lifted: the way back through an affine step is affine too.
UOp pass_derivatives(const UOp& program, const PipelineOptions& options) {
  if (!contains_evolution(program)) return program;
  return lower_derivatives(options.body ? program : check_steps(program), options);
}

// A flow that all passes through a loop's body share is made once, before the loop.
UOp pass_hoist(const UOp& program, const PipelineOptions& options) {
  return replace_gets(program, Op::SCAN, [&](Node* scan) {
    return hoist_flows(scan, [&](const Node* n) -> std::vector<UOp> {
      if (!EvolveView(n).record().flows.empty()) return lower_evolve(n);
      return options.physics ? turn_fast_level(n) : std::vector<UOp>();
    });
  });
}

// An energy may itself hold scans and evolutions, whose derivatives appear when the outer evolution is lowered: again
// until none is left, once a level of nesting.
UOp pass_evolve(const UOp& program, const PipelineOptions& options) {
  if (!contains_evolution(program)) return program;
  UOp p = program;
  while (contains_evolution(p))
    p = replace_gets(lower_derivatives(p, options), Op::EVOLVE, [&](Node* n) -> std::vector<UOp> {
      if (options.physics || !EvolveView(n).row().has_loop())
        if (const UOp jump = lift_evolve(n)) return {get(jump, 0), get(jump, 1)};
      if (options.physics)
        if (std::vector<UOp> turned = turn_fast_level(n); !turned.empty()) return turned;
      return lower_evolve(n);
    });
  return p;
}

// Before evolutions become scans: what those may be was decided from H.
UOp pass_scans(const UOp& program, const PipelineOptions& options) {
  if (!options.physics || !options.lift_scans) return program;
  return replace_gets(program, Op::SCAN, [&](Node* n) -> std::vector<UOp> {
    if (options.step && is_short(n)) return {};
    const UOp jump = lift_scan(n);
    std::vector<UOp> outputs;
    for (std::size_t c = 0; jump && c < ScanView(n).n_carry; ++c)
      outputs.push_back(get(jump, static_cast<std::int64_t>(c)));
    return outputs;
  });
}

// Loops of Reversible::Exact are others: what they are as written goes no further.
UOp pass_fixed_point(const UOp& program, const PipelineOptions&) {
  return replace_gets(program, Op::SCAN, [](Node* n) -> std::vector<UOp> {
    if (ScanView(n).reversible != Reversible::Exact) return {};
    LocationScope at(first_location(n));
    FixedPoint::Whole whole = FixedPoint(open_scan(n)).whole();
    whole.carry.insert(whole.carry.end(), whole.outs.begin(), whole.outs.end());
    return whole.carry;
  });
}

// The loop alternative of a jump and the bodies of scans are programs of their own.
UOp pass_bodies(const UOp& program, const PipelineOptions& options) {
  PipelineOptions inside = options;
  inside.body = true;
  return rebuild(program, {.after = [&](Node*, const UOp& now) -> UOp {
                   const bool back = now->op == Op::PROPAGATE_VJP;
                   if (now->op != Op::SCAN && now->op != Op::PROPAGATE && !back) return {};
                   inside.step = now->op == Op::SCAN;
                   inside.lift_scans =
                       options.lift_scans && now->op == Op::SCAN;  // the loop beside a jump stays one
                   std::vector<Node*> src(now->src().begin(), now->src().end());
                   std::vector<UOp> bodies;
                   for (const std::size_t i : {0, 2, 3}) {
                     if (i > 0 && !back) break;
                     bodies.push_back(run_passes(now.src(i), inside));
                     src[i] = bodies.back().get();
                   }
                   return with_sources(now.get(), src);
                 }});
}

UOp pass_carry_over(const UOp& program, const PipelineOptions& options) {
  if (!options.physics) return program;
  return replace_gets(program, Op::SCAN, [&](Node* n) -> std::vector<UOp> {
    const ScanView before(n);
    long operations = 0;
    const UOp now = carry_over(n, fits_scan_kernel(n, operations));
    if (!now) return {};
    const std::size_t more = ScanView(now.get()).n_carry - before.n_carry;
    std::vector<UOp> outputs;
    for (std::size_t i = 0; i < before.n_carry + before.n_out; ++i)
      outputs.push_back(get(now, static_cast<std::int64_t>(i < before.n_carry ? i : i + more)));
    return outputs;
  });
}

UOp pass_bounds(const UOp& program, const PipelineOptions& options) {
  return options.step ? program : pass_check_bounds(program);  // a step's indices are checked around the loop
}

struct Pass {
  std::string_view name;
  UOp (*run)(const UOp&, const PipelineOptions&);
  std::source_location where = std::source_location::current();
};

// The pass and its place in the list below, then what rules of the rewriter fired in it.
std::string rules_of(const Pass& pass, const FiredRules& fired) {
  std::string file = pass.where.file_name();
  file.erase(0, file.find_last_of('/') + 1);
  return "pass " + std::string(pass.name) + "   " + file + ":" + std::to_string(pass.where.line()) + "\n" +
         fired.text();
}

constexpr std::array kPasses{
    Pass{"complex", pass_complex},         Pass{"simplify", pass_simplify},
    Pass{"derivatives", pass_derivatives}, Pass{"lift scans", pass_scans},
    Pass{"hoist flows", pass_hoist},       Pass{"evolve", pass_evolve},
    Pass{"fixed point", pass_fixed_point}, Pass{"bodies", pass_bodies},
    Pass{"carry over", pass_carry_over},   Pass{"check bounds", pass_bounds},
    Pass{"simplify again", pass_simplify},
};

}  // namespace

UOp run_passes(const UOp& program, const PipelineOptions& options) {
  UOp p = program;
  for (const Pass& pass : kPasses) {
    const UOp before = p;
    const FiredRules fired;
    p = pass.run(p, options);
    if (p == before) continue;
    if (!options.body && env::dumping())
      dump_graph("after " + std::string(pass.name), p, rules_of(pass, fired));
    if (debug_enabled(3, "rewrite"))
      debug_print(3, "rewrite", "after " + std::string(pass.name) + "\n" + to_text(p));
    if (env::verify()) {
      Node* root = p.get();
      verify(std::span<Node* const>(&root, 1), Stage::kTensor);
    }
  }
  return p;
}

}  // namespace tinyphys
