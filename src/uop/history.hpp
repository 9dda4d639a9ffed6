// What realized values remember of how they were made, and when they forget it.
//
// A realized value keeps its sources while a gradient may name one of them: while a handle (a Tensor) holds a node
// below it that is not a constant. Once none does, it becomes a leaf. Where a past is kept, the buffers in it that no handle holds and that
// no value still to be computed needs go all the same: what they held can be computed again from what is left.
//
// The past of a value reaches down to its edge: the nodes that are realized, or held by a handle. So pasts hang
// together by their edges, and what happens to one node (its last handle goes, somebody stops using it) concerns only
// the values that have it at their edge.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// One thread at a time computes values or lets go of pasts.
class ComputeLock {
 public:
  // Waits. A thread that holds it must not ask again: see held_here().
  ComputeLock();
  explicit ComputeLock(std::try_to_lock_t);
  ~ComputeLock();
  ComputeLock(const ComputeLock&) = delete;
  ComputeLock& operator=(const ComputeLock&) = delete;
  bool owns() const { return owns_; }
  static bool held_here();

 private:
  bool owns_ = false;
};

// n has a value now, and its past may go. Under the ComputeLock.
void note_realized(Node* n);
// The same, and it lets go of its past at once where nobody can ask for that: `above` and `sources` as in become_leaf.
void note_realized(Node* n, std::span<const Accounted> above, std::vector<UOp>& sources);
// Whether n has had a value, be it gone by now. Any thread may ask.
bool has_history(const Node* n);
// Lets go of all that nobody can ask for. Under the ComputeLock.
void let_go();

extern std::atomic<bool> history_pending;
void let_go_now() noexcept;
// Called wherever the user may just have given something up: does what is quick, and nothing while a value is being
// computed, or when there is nothing to let go of.
inline void let_go_soon() noexcept {
  if (history_pending.load(std::memory_order_relaxed)) let_go_now();
}

// For node counting only: n lost a reference or its last handle; `place` is what n->history was before.
void history_note(const Node* n, std::uint32_t place) noexcept;
// n is about to be destroyed.
void history_erase(Node* n) noexcept;

}  // namespace tinyphys
