// Steps under an H of degree <= 2 as one affine map, which is made once and applied in each step of a loop around it.
#pragma once

#include <cstdint>
#include <vector>

#include "tinyphys/integrator.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct ScanParts;

// How a loop applies the map.
enum class FlowKind {
  kBlocks,  // no coordinate is joined with another: 2 x 2 numbers for each
  kMatrix,  // a matrix of 2 n x 2 n
  kJump     // a jump in every step, by whatever way there is for the steps
};
inline constexpr std::int64_t kMostFlowRows = 512;  // of kMatrix: n

// Steps of one integrator (of its own flow: Integrator::Exact) under an H of degree <= 2, from any q and p of one shape.
struct QuadraticSteps {
  UOp energy;  // LAMBDA of one output, params [q, p, captured...]
  std::vector<UOp> captured;
  UOp q, p;  // of the shape; not read
  Integrator integrator = Integrator::Exact;
  std::int64_t batch_axes = 0;
  bool dt_in_energy = false;

  FlowKind kind() const;  // by structure
  // q and p after `steps` steps of h; `linear`: under the part of degree 2 alone.
  std::vector<UOp> run(const UOp& at_q, const UOp& at_p, const UOp& h, const UOp& steps, bool linear) const;
  // dH/dq and dH/dp.
  std::vector<UOp> slopes(const UOp& at_q, const UOp& at_p) const;
};

// So many steps of h as a map.
class FlowMap {
 public:
  FlowMap(const QuadraticSteps& of, FlowKind kind, const UOp& h, const UOp& steps);
  // q and p after them.
  std::vector<UOp> turn(const UOp& q, const UOp& p) const;
  // What q becomes by p alone: kBlocks: for each coordinate; kMatrix: [n, n], row i by unit i of p; kJump: null.
  const UOp& q_by_p() const { return q_by_p_; }
  // The map as the body of a loop reads it: what it is made of enters `loop` as captured values. Numbers alone would else be
  // computed anew in each step.
  FlowMap captured_by(ScanParts& loop) const;

 private:
  const QuadraticSteps* of_;
  FlowKind kind_;
  UOp h_, steps_;
  // kBlocks: [4, ...] and [2, ...]; kMatrix: [2 n, 2 n], a row for each part of the state, and [2 n].
  UOp map_, offset_;
  UOp q_by_p_;
};

// x as a captured value of the loop; null stays null.
UOp captured_as_symbol(ScanParts& loop, const UOp& x);
// The identity matrix, float64.
UOp identity_matrix(std::int64_t n);

}  // namespace tinyphys
