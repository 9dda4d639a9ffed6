// The steps of the fastest level of an evolution with levels as one map, where its terms are quadratic (PHYSICS section 5).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "derive/flow_map.hpp"
#include "support/records.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct FastLevel {
  std::string refused;   // why its steps stay steps
  bool offered = false;  // they need not: Method::Auto takes the map, whose rounding adds up
  QuadraticSteps of;     // leapfrog under the V(q) of the level and the T(p) of all terms
  FlowKind kind = FlowKind::kJump;
  std::int64_t steps = 0;  // within one of the level before it
};

// Of an EVOLVE with two levels or more. The map is that of the steps that were asked for, not the flow. 2 x 2 numbers for each
// coordinate are no farther from the exactly evaluated steps than the steps are (class exact). A matrix is: over N steps it is
// off by some 1e-16 N (class method); it is taken by Method::Auto alone, where it is less work.
FastLevel find_fast_level(const Node* evolve);

// q and p after all steps, those of the fastest level as a map; empty where they stay steps, or there are no two levels.
std::vector<UOp> turn_fast_level(const Node* evolve);

// What explain() says of it.
void report_fast_level(const FastLevel& level, const EvolveRecord& record, const Labels& labels, Records& to);

}  // namespace tinyphys
