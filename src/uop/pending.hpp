// What a thread has recorded and nobody has computed: the trace in which a plain loop of the user's is found
// (engine/fold.hpp). Nodes are remembered by address, so that the trace keeps nothing alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

class PendingTrace {
 public:
  // A node was made on this thread, of others. Values of traces (symbols, params) are no part of a plain loop.
  static void note(const Node* n, std::uint32_t location) {
    PendingTrace& t = here();
    if (t.paused_ == 0) t.nodes_.push_back({n, n->hash, location, ++t.noted_});
  }
  // Called where a call of the user's ends: its results are handles by now.
  static void call_ended() {
    PendingTrace& t = here();
    if (t.nodes_.size() >= t.limit_ && t.paused_ == 0) t.full();
  }

  // These values are about to be computed: what they come from may be a loop.
  static void before_compute(std::span<const UOp> values) {
    PendingTrace& t = here();
    // A look goes over the whole trace: the longer it is, the more must have come.
    const std::size_t enough = kWorthALook + t.looked_ / 2;
    if (t.nodes_.size() >= t.looked_ + enough && t.paused_ == 0) t.full(kWorthALook, values);
  }

  struct Operation {
    UOp node;
    std::uint32_t location;  // id of the user's line that made it, 0 = none
    std::uint64_t number;    // of those that the thread has recorded: passes are counted by it
  };
  // Those that are alive and have never had a value, in the order in which they were made; the trace is empty then.
  static std::vector<Operation> take_alive();
  // The trace goes on with these.
  static void keep(const std::vector<Operation>& operations);

  // Nothing is noted while one of these lives on the thread.
  class Pause {
   public:
    Pause() { ++here().paused_; }
    ~Pause() { --here().paused_; }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
  };

  // What folds a trace of more than half of `limit` (0: of the user's own) nodes: how many may be noted until it is called
  // again. `values`: references that the caller holds. Set once, before main().
  using Full = std::size_t (*)(std::size_t limit, std::span<const UOp> values) noexcept;
  static void set(Full full);

 private:
  struct Noted {
    const Node* node;
    std::uint32_t hash, location;
    std::uint64_t number;
  };
  static PendingTrace& here() { return trace ? *trace : make(); }
  static PendingTrace& make();
  void full(std::size_t limit = 0, std::span<const UOp> values = {}) noexcept;

  static constexpr std::size_t kFirstLook = 64, kWorthALook = 64;
  // Of the thread. A pointer, so that no operation asks whether it has been made.
  static constinit thread_local PendingTrace* trace;
  std::vector<Noted> nodes_;
  std::size_t limit_ = kFirstLook, looked_ = 0;  // looked_: how many the last look left
  std::uint64_t noted_ = 0;
  int paused_ = 0;
};

// The node, if it is alive: one with this address and hash.
UOp find_alive(const Node* n, std::uint32_t hash);

// n, whose value is that of `source`, becomes a COPY of it: its sources are moved to `sources`, and equal
// nodes made later are other nodes. `above` as in become_leaf. False where it could not be done; nothing changed then.
bool become_copy(Node* n, const UOp& source, std::span<const Accounted> above, std::vector<UOp>& sources);
// Whether n is such a node: a COPY that stays on its device.
inline bool is_copy(const Node* n) { return n->op == Op::COPY && n->src(0)->device() == n->device(); }

}  // namespace tinyphys
