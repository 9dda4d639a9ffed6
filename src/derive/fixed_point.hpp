// A scan of Reversible::Exact: its state in int64 fixed point (JANUS: Rein and Tamayo 2018). Where a step of the scan as it is
// written has x' = x + f, here X' = X + round(f / unit) with x = unit X in f, in the same order: to take the rounded increment
// away again, computed from the same numbers, gives the same X, bit for bit.
#pragma once

#include <vector>

#include "derive/shears.hpp"
#include "uop/build.hpp"

namespace tinyphys {

class FixedPoint {
 public:
  // The step must be a sequence of shears, and the range of each float64 part that a step changes positive: see fixed_refusal.
  explicit FixedPoint(const ScanParts& step);

  // The state: int64 for parts in fixed point, others (integers, functions of the others, what stays) as they are.
  const std::vector<UOp>& symbols() const { return symbols_; }
  const std::vector<UOp>& start() const { return start_; }
  // What a step makes of it, and what its outputs are; over symbols() and the params of the step.
  const std::vector<UOp>& next() const { return next_; }
  const std::vector<UOp>& outs() const { return outs_; }
  // The carry of the scan as it is written.
  std::vector<UOp> values(const std::vector<UOp>& state) const;
  // The state that enters a step, of that which leaves it.
  std::vector<UOp> entered(const std::vector<UOp>& leaves) const;

  // Null, or false: for the `until` of all loops of these steps, forward and undone. One kernel with the loop in it adds up
  // long sums in another order than a loop of kernels does: where one direction might be the one and the other not, both
  // are loops of kernels.
  const UOp& until() const { return until_; }

  // The whole loop: the carry, then the stacked outputs, then the state in fixed point at the end. Behind a CHECK that no value
  // has left its range.
  struct Whole {
    std::vector<UOp> carry, outs, state;
  };
  Whole whole() const;

 private:
  UOp value(std::size_t part, const UOp& state) const;
  UOp rounded(std::size_t part, const UOp& x, UOp* inside = nullptr) const;

  ScanParts step_;
  Shears shears_;
  std::vector<double> unit_;  // 0: not in fixed point
  std::vector<UOp> symbols_, start_, next_, outs_;
  UOp until_;
  UOp out_of_range_;  // int64, of one step: 0, or CheckKind::kStaysInRange
};

// What one unit of a part with this range is.
double fixed_unit(double range);

// Why a scan cannot be in fixed point; empty where it can.
std::string fixed_refusal(const ScanParts& step);
// Which value of its start is outside its range, as far as values are known now; empty where none is. What is not known is looked
// at when the loop runs. The scan can be in fixed point.
std::string start_refusal(const ScanParts& step);

}  // namespace tinyphys
