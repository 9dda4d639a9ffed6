// A user's SCAN whose step is affine in its carry -> PROPAGATE: z' = A z + b, n times, becomes one jump (PHYSICS
// section 2). Damped oscillators, filters, explicit heat and wave steps, Markov chains.
//
// This pass decides on structure only, as loop_lift does for evolutions of a Hamiltonian.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "analysis/identity.hpp"
#include "derive/way_back.hpp"
#include "support/records.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// What is proved of the body of a SCAN; the same for all SCANs of one body.
struct StepProof {
  bool affine = false;
  std::string refused;   // why it is no map to be lifted
  Op culprit = Op::GET;  // of the node that the reason names
  int bound = 0;         // of the degree
  IdentityTest identity;
};
std::shared_ptr<const StepProof> prove_step(const Node* scan);

// The PROPAGATE in place of a SCAN, or nothing when it stays a loop.
UOp lift_scan(const Node* scan);

// The cotangents of the inputs of a SCAN_VJP (those wanted, the others null) of an affine step by what the step captures,
// without a tape: by up to four numbers forward, a SCAN of the carry and its tangent for each, which is affine again; by
// arrays, and more of them, the sums of linalg/affine_sums.hpp, a PROPAGATE_VJP, where `sums` allows it. Nothing where that
// cannot be had, or by the carry alone.
std::vector<UOp> lift_scan_gradient(const Node* scan_vjp, const std::vector<bool>& wanted, bool sums);

// For what goes back over a tape: what that keeps, and its size.
std::string tape_text(std::optional<std::int64_t> steps, std::size_t bytes_a_step);

// What explain() says of a scan: what was asked for, what is proved of its step, and what its run decided.
class ScanNotes final : public Notes {
 public:
  // `run`: what the Guard of its jump has noted; null before it has run, and where there was no Guard. A SCAN_VJP: the way
  // back.
  ScanNotes(Node* scan, std::shared_ptr<const Notes> run, std::string where, Labels labels);
  void report(Records& to) const override;

 private:
  std::string what_, where_;
  Labels labels_;
  std::shared_ptr<const Notes> run_;
  bool asked_for_loop_ = false, back_ = false;
  std::optional<std::int64_t> steps_;
  std::size_t tape_bytes_ = 0;  // of a step
  std::optional<WayBack> way_;  // of a gradient, where the number of steps is known
  bool exact_ = false;          // Reversible::Exact
  std::shared_ptr<const StepProof> proof_;
};

}  // namespace tinyphys
