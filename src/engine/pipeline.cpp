#include "engine/pipeline.hpp"

#include <array>
#include <string_view>

#include "derive/lower_evolve.hpp"
#include "derive/scan_tape.hpp"
#include "passes/check_bounds.hpp"
#include "passes/loop_lift.hpp"
#include "rewrite/rewrite.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/spec.hpp"

namespace tinyphys {
namespace {

// The program with the outputs f(n) in place of GETs of each EVOLVE n.
template <class F> UOp replace_evolves(const UOp& program, F&& f) {
  // From the sources up, so that f sees nodes whose own sources are already replaced.
  NodeMap<std::vector<UOp>> made;
  NodeMap<UOp> done;
  for (Node* n : toposort(program)) {
    UOp r;
    if (n->op == Op::GET && made.contains(n->src(0))) {
      r = made.at(n->src(0))[static_cast<std::size_t>(n->arg(0))];
    } else if (n->n_src == 0 || n->op == Op::LAMBDA) {
      r = n == program.get() ? UOp() : UOp::share(n);
    }
    if (!r) {
      std::vector<Node*> src;
      bool changed = false;
      for (Node* s : n->src()) {
        src.push_back(done.at(s).get());
        changed |= src.back() != s;
      }
      LocationScope at(n->location.load(std::memory_order_relaxed));
      r = changed ? with_sources(n, src) : UOp::share(n);
      if (n->op == Op::EVOLVE) made.insert(n, f(r.get()));
    }
    done.insert(n, std::move(r));
  }
  return done.at(program.get());
}

UOp pass_simplify(const UOp& program, const PipelineOptions&) {
  return with_outputs(program.get(), simplify(outputs_of(program.get())));
}

// Gradients of evolutions and scans, by a tape of the carries.
UOp lower_derivatives(const UOp& program) {
  return with_outputs(program.get(), lower_vjps(outputs_of(program.get())));
}

bool contains_evolution(const UOp& program) {
  for (Node* n : toposort(program))
    if (n->op == Op::EVOLVE || n->op == Op::EVOLVE_VJP || n->op == Op::SCAN_VJP) return true;
  return false;
}

// An energy may itself hold scans and evolutions, whose derivatives appear when the outer evolution is lowered: again
// until none is left, once a level of nesting.
UOp pass_evolve(const UOp& program, const PipelineOptions& options) {
  UOp p = program;
  while (contains_evolution(p))
    p = replace_evolves(lower_derivatives(p), [&](Node* n) -> std::vector<UOp> {
      if (options.physics || !EvolveView(n).row().has_loop())
        if (const UOp jump = lift_evolve(n)) return {get(jump, 0), get(jump, 1)};
      return lower_evolve(n);
    });
  return p;
}

// The loop alternative of a jump and the bodies of scans are programs of their own.
UOp pass_bodies(const UOp& program, const PipelineOptions& options) {
  PipelineOptions inside = options;
  inside.body = true;
  NodeMap<UOp> done;
  std::vector<Node*> src;
  std::vector<UOp> hold;
  for (Node* n : toposort(program)) {
    if (n == program.get()) break;
    if (n->op == Op::LAMBDA) {
      done.insert(n, UOp::share(n));
      continue;
    }
    const bool has_body = n->op == Op::SCAN || n->op == Op::PROPAGATE;
    src.clear();
    hold.clear();
    bool changed = false;
    for (std::size_t i = 0; i < n->n_src; ++i) {
      hold.push_back(i == 0 && has_body ? run_passes(UOp::share(n->src(0)), inside) : done.at(n->src(i)));
      src.push_back(hold.back().get());
      changed |= src.back() != n->src(i);
    }
    LocationScope at(n->location.load(std::memory_order_relaxed));
    done.insert(n, changed ? with_sources(n, src) : UOp::share(n));
  }
  std::vector<UOp> outputs;
  for (Node* o : program->src()) outputs.push_back(done.at(o));
  return with_outputs(program.get(), outputs);
}

UOp pass_bounds(const UOp& program, const PipelineOptions& options) {
  return options.body ? program : pass_check_bounds(program);
}

struct Pass {
  std::string_view name;
  UOp (*run)(const UOp&, const PipelineOptions&);
};
constexpr std::array kPasses{
    Pass{"simplify", pass_simplify},       Pass{"evolve", pass_evolve}, Pass{"check bounds", pass_bounds},
    Pass{"simplify again", pass_simplify}, Pass{"bodies", pass_bodies},
};

}  // namespace

UOp run_passes(const UOp& program, const PipelineOptions& options) {
  UOp p = program;
  for (const Pass& pass : kPasses) {
    const UOp before = p;
    p = pass.run(p, options);
    if (p == before) continue;
    if (debug_enabled(3)) debug_print(3, "rewrite", "after " + std::string(pass.name) + "\n" + to_text(p));
    if (env::verify()) {
      Node* root = p.get();
      verify(std::span<Node* const>(&root, 1), Stage::kTensor);
    }
  }
  return p;
}

}  // namespace tinyphys
