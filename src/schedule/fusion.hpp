// Which values get a buffer, and which of them one kernel makes.
#pragma once

#include <span>
#include <vector>

#include "uop/graph.hpp"

namespace tinyphys {

struct FusionGroup {
  Node* whole = nullptr;     // SCAN, PROPAGATE, CHECK, what a library function makes; null for a kernel
  std::vector<Node*> roots;  // a kernel's outputs, of one shape; the wanted GETs of a whole op
};

struct Fusion {
  std::vector<FusionGroup> groups;  // in an order in which they can run
};

// `fuse` false: every op that computes gets a buffer of its own.
Fusion fuse(std::span<Node* const> roots, bool fuse);

// A kernel that sums so many terms or more for each element writes out short axes of its result: one sum for each place.
inline constexpr std::int64_t kWrittenOut = 64;
// So many at most: terms of a sum, or places of short axes, that are written out.
inline constexpr std::int64_t kFewTerms = 4;

// Ops that only the evaluator on the host runs.
bool is_host_only(const Node* n);

}  // namespace tinyphys
