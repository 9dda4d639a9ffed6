// Programs that were computed before, found again by one walk over the recorded graph: what a loop that reads a value in each
// pass asks for, again and again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/canonical.hpp"
#include "support/hash.hpp"

namespace tinyphys {

// Under the ComputeLock.
class Recall {
 public:
  struct Found {
    Canonical canonical;
    // What made the arguments, evolutions or scans: nothing, one record, or several.
    std::shared_ptr<const Origin> origin;
    bool many_origins = false;
  };

  // The canonical form of these values, where one of the same structure was kept. Nothing for larger graphs, and where a
  // loop is below. Each of the values has no storage and is there once.
  std::optional<Found> find(std::span<const UOp> values);
  // Keeps the canonical form of the values that find() was just asked for in vain.
  void keep(const Canonical& canonical);

 private:
  static constexpr std::size_t kMaxNodes = 512, kSlots = 4 * kMaxNodes, kMaxKept = 256;

  struct Kept {
    std::vector<std::uint64_t> structure;
    UOp program;
    std::vector<std::uint32_t> order;  // of each argument: which leaf of the walk it is
  };
  struct Slot {
    const Node* node = nullptr;
    std::uint32_t number = 0, walk = 0;
  };

  bool walk(std::span<const UOp> values);
  Slot& slot(const Node* n);

  std::unordered_multimap<std::uint64_t, Kept> kept_;
  // Of the walk: an op, its args and the numbers of its sources for each node, sources first; and the leaves.
  std::vector<std::uint64_t> structure_;
  std::vector<Node*> leaves_;
  bool complete_ = false;
  std::vector<Slot> slots_ = std::vector<Slot>(kSlots);
  std::uint32_t walks_ = 0;
  std::vector<std::pair<Node*, std::uint32_t>> stack_;
};

}  // namespace tinyphys
