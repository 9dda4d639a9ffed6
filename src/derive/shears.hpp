// The step of a loop as a sequence of shears, x' = x + f(the others) for one part of the state after the other, read off its
// graph: then each step can be undone, x = x' - f (PHYSICS section 9).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "uop/build.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct Shears {
  // What undoes one part of a step, in the order of undoing.
  struct Undo {
    std::size_t part = 0;  // number of the carry
    // after = before + increment, or before - increment; the increment is made of what is known by then. Without an
    // increment: the carry is no state, but what a step leaves is a function of the other parts (a force that the next step
    // takes up), so that what enters a step is the same function of what these were then.
    UOp before, after, increment;
    bool minus = false;
    bool is_function() const { return !increment; }
  };
  std::vector<Undo> list;
  // Where a carry leaves the step as a CAT, each of what is joined is a part by itself: the list then speaks of `parts`, the
  // same step over them. Empty where all carries are parts as they are.
  struct Piece {
    std::size_t carry = 0;
    std::int64_t axis = -1, begin = 0, end = 0;  // where it lies in the carry; axis -1: it is the carry
  };
  std::vector<Piece> pieces;
  ScanParts parts;
  // Why the step is none; empty where it is. Carries are named z0, z1, ...
  std::string refused;
  bool found() const { return refused.empty(); }
};

// Everything is a node over the params of `step`. A part that no step changes is one, too; so is an integer that is added to.
// `split`: whether the parts that a carry is joined of may be taken one by one.
Shears find_shears(const ScanParts& step, bool split = true);

// The carry that enters a step, of that which leaves it. `recorded`: the carry that entered the first step, for what is a
// function of the others and starts as the user says.
std::vector<UOp> undone(const Shears& shears, const ScanParts& step, std::span<const UOp> leaves,
                        std::span<const UOp> recorded);

// How far a start is missed, float64[]: of each part of the state the largest absolute difference, relative to the largest
// absolute value of that part at the start, or, where that is 0, at the end; the worst of all. Infinite where an integer differs.
UOp distance_of_starts(std::span<const UOp> recovered, std::span<const UOp> recorded,
                       std::span<const UOp> end);

}  // namespace tinyphys
