// The members of a SCAN: axes along which its step does the same at every place and joins none with another, as an ensemble
// of trajectories does. A kernel puts members into lanes and runs through all steps with the state of a few in registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "uop/graph.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct Members {
  Dims extents;  // one for each loop over members, outer first; empty: there are none
  std::vector<std::vector<std::size_t>> axes;  // of each output of the body: its axis for each loop
  NodeMap<std::int64_t> elements;  // of a node of the body, for one member; where there are none: all

  std::int64_t of(const Node* n) const {
    const std::int64_t* known = elements.find(n);
    return known ? *known : n->size();
  }
};

// Decided by structure: elementwise work, and movement that leaves an axis alone. Axes of a few places are not worth a loop.
// Nothing where a scan is inside the scan.
Members members_of(const Node* scan);

}  // namespace tinyphys
