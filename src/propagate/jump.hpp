// The Guard of a PROPAGATE: from values, which propagator takes the jump, or that the loop runs.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "propagate/propagator.hpp"
#include "support/records.hpp"

namespace tinyphys {

// What a run of one PROPAGATE found and did.
class JumpNotes final : public Notes {
 public:
  bool jumped = false;
  std::string_view propagator;       // that jumped
  std::string structure;             // of the propagator that jumped, or came nearest to it
  std::vector<std::string> refused;  // why the others did not: "normal-mode jump: ..."
  bool by_cost = false;              // it looped because that is cheaper
  bool hamiltonian = false;
  bool has_loop = true;
  std::string_view integrator;  // hamiltonian
  bool separable = false;       // hamiltonian
  std::int64_t steps = 0;
  double build_s = 0;  // what all jumps of the system share; 0 when it was ready
  double apply_s = 0;
  double loop_s = 0, jump_s = 0;       // predicted
  bool of_gradient = false;            // the sums of one, in place of a state
  double of_each = 0, of_largest = 0;  // of_gradient: how far the sums may be off, relative
  double gradient_rounding = 0;        // and what that makes of the gradient
  JumpFindings findings;
  // Of the loop of so many steps, one for each part of the state, relative to its largest element: the running error
  // bound of a step at this state, as a random walk. Empty where there is no loop.
  std::vector<double> loop_rounding;

  void report(Records& to) const override;
};

// Jumps when that is possible and predicted to be cheaper than loop_seconds (the whole loop), or when there is no loop;
// `out` is written only then. state and captured as in `propagate`. Keeps what it builds for the systems met last.
std::shared_ptr<const JumpNotes> try_jump(const Node* propagate, std::int64_t steps,
                                          std::span<const HostValue> state,
                                          std::span<const HostValue> captured, std::span<double* const> out,
                                          double loop_seconds);

// The sums of a gradient of a PROPAGATE_VJP (scan_layout.hpp) into `out`, where they can be had and with what makes the gradient of them (`finish_seconds`) are predicted to be cheaper than loop_seconds.
std::shared_ptr<JumpNotes> try_gradient_sums(const Node* propagate_vjp, std::int64_t steps,
                                             std::span<const HostValue> state,
                                             std::span<const HostValue> captured,
                                             std::span<const HostValue> cotangents,
                                             std::span<double* const> out, double loop_seconds,
                                             double finish_seconds);

}  // namespace tinyphys
