// EVOLVE -> SCAN: the loop that the integrator means, one step per pass, read off the integrator's row.
#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "derive/flow_map.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// The sum of the terms of H.
UOp total_energy(std::span<const UOp> terms);

// dH/dq and dH/dp of an energy LAMBDA with params [q, p, captured...], as a LAMBDA of the same params. With levels (of each
// term, as in EvolveRecord): dH/dq of the terms of each level, the slowest first, and dH/dp of all.
UOp force_lambda(const Node* energy, const Node* q, const Node* p, const EvolveRecord& record = {});

// The steps of an integrator under forces.
struct ForceLoop {
  EvolveRecord record;
  UOp forces;  // LAMBDA: params [q, p, captured...], outputs [dH/dq, dH/dp], of an energy or not; as of force_lambda
  UOp dt, steps, q, p;
  std::vector<UOp> captured;  // where the record says `timed`, the first is the time at the start
  // What takes the place of a step: from q and p, with the step itself at hand. `counts`: int64 scalars, each added to a carry
  // that starts at 0; they are the last outputs of the loop. May be empty; not with an integrator that solves.
  struct Ended {
    UOp q, p;
    std::vector<UOp> counts;
  };
  using StepOf = std::function<std::pair<UOp, UOp>(const UOp& q, const UOp& p)>;
  std::function<Ended(const UOp& q, const UOp& p, const StepOf& step)> instead = {};
  std::size_t n_counts = 0;
  // With two levels or more: the steps of the fastest one within one of the level before it, as a map. Null: they are steps.
  const FlowMap* fastest = nullptr;
};

// The q and p after all steps: GETs of one SCAN. Substeps in order (support/integrators.hpp):
//   kick   p -= c h dH/dq      drift   q += c h dH/dp
//   solve  z' = z + c h J grad H((z + z')/2) by fixed-point iteration, checked for convergence
// Where a step begins and ends with a kick, the force is carried from step to step. With levels, what a kick-drift-kick step
// does between its kicks are the steps of the next level, a SCAN within. In a timed H the time of a kick is
// that of the drifts done, the time of a solve its middle. An integrator that is a flow has no loop: it throws. The counts
// of `instead` follow q and p.
std::vector<UOp> loop_of_steps(const ForceLoop& loop);
std::vector<UOp> lower_evolve(const Node* evolve);

// The lowered EVOLVE with symbols in the place of its float sources (two of them may be one node).
struct LoweredEvolve {
  std::vector<UOp> symbols;  // null where the source is no float
  std::vector<UOp> outputs;  // q, p over the symbols
  std::vector<UOp> at_sources(
      std::vector<UOp> values) const;  // the symbols replaced by the sources; nulls stay null

  explicit LoweredEvolve(const Node* evolve);

 private:
  const Node* evolve_;
};

// A timed EVOLVE as steps of 1 under h H(q, p, t0 + h tau), with tau from 0: sources
// [H', 1, steps, q, p, tau, t0, h, captured...] (captured without the time). For derivatives and batches by t0 and h.
UOp by_unit_steps(const Node* evolve);

}  // namespace tinyphys
