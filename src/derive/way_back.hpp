// How the gradient through a scan gets at the state of each step on its way from the last to the first: what is decided, and
// what it costs. src/derive/scan_tape.cpp builds it.
#pragma once

#include <cstdint>
#include <string>

#include "uop/build.hpp"

namespace tinyphys {

// A start that undone steps recover worse than this, relative (distance_of_starts), is none.
inline constexpr double kReversalTolerance = 1e-10;

struct WayBack {
  enum class Kind {
    kTape,  // the states of all steps are kept
    kCheckpoints,  // of blocks of base^(levels-1) steps, of base^(levels-2) in each, ...: taken anew from where they begin
    kUndo,       // each step is undone; a few states are kept at a time
    kFixedPoint  // the same in int64, to the bit
  };
  Kind kind = Kind::kTape;
  std::int64_t steps = 0;
  std::int64_t base = 0;   // kCheckpoints
  int levels = 1;          // kCheckpoints; the innermost is a tape
  std::int64_t kept = 0;   // states kept at a time, each with a copy; of a tape and checkpoints
  std::int64_t block = 1;  // kUndo, kFixedPoint: steps that are undone before their adjoints are taken
  double state_bytes = 0;  // of one state
  double bytes = 0;  // of the states kept at a time: each set, and its copy in the order of the way back
  bool offers_undo = false;  // nobody asked for it, and it would save what checkpoints take
  std::string refused;       // why steps are not undone where that was asked for
};

// For a scan of these parts with a constant number of steps. `may_undo`: false in a graph that is differentiated again.
WayBack choose_way_back(const ScanParts& step, bool may_undo = true);
// The checkpoints that are taken where the undone start is missed.
WayBack checkpoints_of(const ScanParts& step);

}  // namespace tinyphys
