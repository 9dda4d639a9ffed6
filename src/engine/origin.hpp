// The evolutions and scans that a value came from, kept beside the value when it has let go of its past.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "support/records.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Bounded: a loop that realizes its state each pass adds to a count.
struct Origin {
  struct Step {
    UOp node;           // the EVOLVE or SCAN with PARAMs in place of its data
    std::string where;  // file:line, "" when unknown
    Labels labels;
    std::shared_ptr<const Notes> run;  // of the last one; null where nothing jumps
    std::int64_t times = 1;
  };
  std::vector<Step> steps;   // the last first
  std::int64_t earlier = 0;  // further ones that are not listed
};

// An evolution or scan with params in place of its data: the node of its Step.
UOp without_data(const Node* loop);

// What `value` comes from: its own past down to realized values, and what those came from. `notes_of`: what the run of an
// EVOLVE or SCAN has noted. Null where there is none.
std::shared_ptr<const Origin> origin_of(Node* value,
                                        const std::function<std::shared_ptr<const Notes>(Node*)>& notes_of);

// What several values come from, as one. Values that came from the same steps are not counted twice: of what several of them
// name, the most counts.
Origin merged(std::span<const std::shared_ptr<const Origin>> origins);

}  // namespace tinyphys
