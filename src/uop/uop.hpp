// The one node type of every stage: immutable, hash-consed, reference counted.
//
// Equal (op, sources, args) is the same pointer. dtype and shape are derived (derive.cpp), never passed in.
// A node is one block: header, then sources, args and dims as trailing arrays.
// Threads may build and drop graphs at once; a node's contents never change after it is published.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/records.hpp"
#include "support/small_vector.hpp"
#include "tinyphys/dtype.hpp"
#include "uop/ops.hpp"
#include "uop/storage.hpp"

namespace tinyphys {

using Dims = SmallVector<std::int64_t, 6>;

// Who holds a node: all references, and the user's handles (Tensors) among them. One word, so that both are known at
// one instant.
class RefCount {
 public:
  RefCount() = default;

  // All references.
  std::uint32_t load(std::memory_order order = std::memory_order_seq_cst) const {
    return static_cast<std::uint32_t>(word_.load(order));
  }
  std::uint32_t handles() const { return handles_of(word_.load(std::memory_order_seq_cst)); }

  void add() { word_.fetch_add(1, std::memory_order_relaxed); }
  // True: that was the last one.
  bool drop() { return static_cast<std::uint32_t>(word_.fetch_sub(1, std::memory_order_acq_rel)) == 1; }
  // False: the count had fallen to 0, its owner is about to erase the node.
  bool add_if_alive() {
    std::uint64_t w = word_.load(std::memory_order_relaxed);
    while (static_cast<std::uint32_t>(w) != 0)
      if (word_.compare_exchange_weak(w, w + 1, std::memory_order_seq_cst, std::memory_order_relaxed)) {
        if (w & kClaimed) wait();
        return true;
      }
    return false;
  }

  void add_handle() { word_.fetch_add(kHandle, std::memory_order_relaxed); }
  // A reference becomes a handle.
  void promote() { word_.fetch_add(kHandle - 1, std::memory_order_relaxed); }
  // What was there before.
  struct Dropped {
    bool last_reference, last_handle, watched;
  };
  Dropped drop_handle() {
    const std::uint64_t w = word_.fetch_sub(kHandle, std::memory_order_acq_rel);
    return {static_cast<std::uint32_t>(w) == 1, handles_of(w) == 1, (w & kWatched) != 0};
  }
  // Somebody wants to know when the user's handles change, from now on.
  void watch() { word_.fetch_or(kWatched, std::memory_order_relaxed); }
  bool watched() const { return (word_.load(std::memory_order_relaxed) & kWatched) != 0; }
  // A reference from a handle; waits while a claim is held.
  void add_from_handle() {
    if (word_.fetch_add(1, std::memory_order_acquire) & kClaimed) wait();
  }

  // Succeeds when nothing but handles and `others` further references hold the node; until unclaim() no other thread
  // gets at the node by a handle or a search.
  bool claim(std::uint32_t others) {
    std::uint64_t w = word_.load(std::memory_order_relaxed);
    return static_cast<std::uint32_t>(w) == handles_of(w) + others &&
           word_.compare_exchange_strong(w, w | kClaimed, std::memory_order_acq_rel);
  }
  void unclaim() { word_.fetch_and(~kClaimed, std::memory_order_release); }

 private:
  static constexpr std::uint64_t kHandle = (std::uint64_t{1} << 32) + 1, kClaimed = std::uint64_t{1} << 63,
                                 kWatched = std::uint64_t{1} << 62;
  static std::uint32_t handles_of(std::uint64_t w) {
    return static_cast<std::uint32_t>((w & ~(kClaimed | kWatched)) >> 32);
  }
  void wait() const;

  std::atomic<std::uint64_t> word_{1};
};

struct Node {
  RefCount refs;
  Op op;
  DType dtype;
  std::uint8_t flags;
  std::uint8_t size_class;
  std::uint32_t n_src;
  std::uint16_t n_arg;
  std::uint16_t n_dim;
  std::atomic<std::uint32_t> location;  // id of the first call site, 0 = none
  std::uint32_t hash;
  std::atomic<std::uint32_t> history;  // its place in the history of realized values, 0 = none
  std::atomic<Storage*> storage;

  // A symbol of an open trace is below.
  static constexpr std::uint8_t kHasSym = 1;
  // Data (a BUFFER) is below: the value is not a constant of the program text.
  static constexpr std::uint8_t kHasBuffer = 2;
  static constexpr std::uint8_t kHasParam = 4;
  // A COPY from one device to another is below.
  static constexpr std::uint8_t kCrosses = 8;
  // Above these the device that the user chose for what is below: 0, or one more than its place in kDeviceNames.
  static constexpr int kDeviceShift = 4;
  // A complex value is here or below, in bodies too.
  static constexpr std::uint8_t kHasComplex = 128;
  // No node takes less memory.
  static constexpr std::size_t kMinBytes = 64;

  std::span<Node* const> src() const { return {reinterpret_cast<Node* const*>(this + 1), n_src}; }
  std::span<const std::int64_t> arg() const {
    return {reinterpret_cast<const std::int64_t*>(this + 1) + n_src, n_arg};
  }
  std::span<const std::int64_t> shape() const {
    return {reinterpret_cast<const std::int64_t*>(this + 1) + n_src + n_arg, n_dim};
  }
  Node* src(std::size_t i) const { return src()[i]; }
  int device() const { return (flags & ~kHasComplex) >> kDeviceShift; }
  std::int64_t arg(std::size_t i) const { return arg()[i]; }
  // Elements of the value; 1 for a scalar.
  std::int64_t size() const {
    std::int64_t n = 1;
    for (std::int64_t d : shape()) n *= d;
    return n;
  }
};
static_assert(sizeof(Node) == 40);

void destroy_node(Node* n);  // refs just fell to 0

// Owning handle: one pointer.
class UOp {
 public:
  UOp() = default;
  UOp(const UOp& o) : n_(o.n_) { retain(n_); }
  UOp(UOp&& o) noexcept : n_(std::exchange(o.n_, nullptr)) {}
  UOp& operator=(UOp o) noexcept {
    std::swap(n_, o.n_);
    return *this;
  }
  ~UOp() {
    if (n_ && n_->refs.drop()) destroy_node(n_);
  }
  // Another reference to a node that somebody holds.
  static UOp share(Node* n) {
    retain(n);
    return UOp(n);
  }
  // The same for a node that a Tensor holds.
  static UOp share_held(Node* n) {
    if (n) n->refs.add_from_handle();
    return UOp(n);
  }
  static UOp adopt(Node* n) { return UOp(n); }
  Node* detach() { return std::exchange(n_, nullptr); }

  Node* get() const { return n_; }
  Node* operator->() const { return n_; }
  explicit operator bool() const { return n_ != nullptr; }
  friend bool operator==(const UOp& a, const UOp& b) { return a.n_ == b.n_; }
  UOp src(std::size_t i) const { return share(n_->src(i)); }

 private:
  explicit UOp(Node* n) : n_(n) {}
  static void retain(Node* n) {
    if (n) n->refs.add();
  }
  Node* n_ = nullptr;
};

// --- making nodes ------------------------------------------------------------------------------------

// The interned node. dtype and shape are derived; a malformed node throws tp::Error("uop", ...): the front end
// checks user input before, with better words.
UOp make(Op op, std::span<Node* const> src, std::span<const std::int64_t> arg = {});
UOp make(Op op, std::span<const UOp> src, std::span<const std::int64_t> arg = {});
// An elementwise operation on two values of one dtype and shape, whose references become those of a new node.
UOp make_of(Op op, std::span<UOp, 2> src);
UOp make(Op op, std::initializer_list<UOp> src, std::span<const std::int64_t> arg);
UOp make(Op op, std::initializer_list<UOp> src, std::initializer_list<std::int64_t> arg = {});
// The same node over other sources.
UOp with_sources(const Node* n, std::span<Node* const> src);

// Converted to d; a complex one is a CAST of its real part, so that CONST itself is never complex.
UOp constant(double v, DType d = DType::kFloat64);
UOp constant_int(std::int64_t v, DType d = DType::kInt64);
UOp constant_bool(bool v);
// A fresh leaf with its own id. The storage holds size * item_size bytes in row-major order.
UOp buffer(DType d, std::span<const std::int64_t> shape, StorageRef data);
UOp symbol(DType d, std::span<const std::int64_t> shape);
UOp param(std::int64_t index, DType d, std::span<const std::int64_t> shape, bool scalar_slot = false);
UOp get(const UOp& whole, std::int64_t i);

// Value of a CONST.
double const_double(const Node* n);
std::int64_t const_int(const Node* n);
inline bool is_const(const Node* n) { return n->op == Op::CONST; }
bool is_const(const Node* n, double v);  // a CONST of any dtype with this value (0 matches +0 only)
inline std::int64_t bits(double v) { return std::bit_cast<std::int64_t>(v); }
inline double from_bits(std::int64_t v) { return std::bit_cast<double>(v); }

// Whether a CHECK lets its value pass, by its scalar.
inline bool check_passes(const Node* check, std::int64_t scalar) {
  switch (static_cast<CheckKind>(check->arg(0))) {
    case CheckKind::kIndexInRange: return scalar >= -check->arg(1) && scalar < check->arg(1);
    case CheckKind::kProjected: return true;
    case CheckKind::kWarpDefined: return scalar < 0;
    case CheckKind::kStaysInRange: return scalar == 0;
    case CheckKind::kStartMissed:
    case CheckKind::kAdjointGrew: return true;
    default: return scalar != 0;
  }
}
// GATHER and SCATTER_ADD by an index that is out of range. `where`: the node that has the place.
[[noreturn]] void index_out_of_range(Op op, std::int64_t index, std::int64_t extent, const Node* where);

// Few words: a loop, as std::equal calls memcmp.
inline bool same_words(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i]) return false;
  return true;
}
inline bool same_shape(const Node* a, const Node* b) { return same_words(a->shape(), b->shape()); }
Dims shape_of(const Node* n);
std::string shape_text(std::span<const std::int64_t> shape);  // "[3,4]"

// --- realized values ---------------------------------------------------------------------------------

// The first value set wins; later ones are dropped (they are equal).
void set_storage(Node* n, StorageRef s);
// Memory for a value. Throws tp::Error("allocate", out_of_memory(...)) without a place when there is none.
StorageRef allocate(DType d, std::span<const std::int64_t> shape, Memory& memory = host_memory());
std::size_t bytes_of(DType d, std::span<const std::int64_t> shape);  // SIZE_MAX where a number cannot say it
std::string out_of_memory(DType d, std::span<const std::int64_t> shape);  // dtype, shape and bytes
// Null: not realized. What is inside may be looked at by who holds the node by a handle, or computes.
inline Storage* storage(const Node* n) { return n->storage.load(std::memory_order_seq_cst); }

// The user drops a handle of n.
void release_handle(Node* n) noexcept;
// How often a handle of a watched node (RefCount::watch) was dropped or moved.
std::uint64_t handle_changes();
void note_handle_change() noexcept;
// Whether those that this thread drops or moves are left out, being no handles of the user's.
bool& quiet_handles();

// A node and the references to it that are accounted for, beside its handles.
struct Accounted {
  Node* node;
  std::uint32_t references;
};
// n, which has a value, becomes a BUFFER without args: its sources are moved to `sources`, and equal nodes made later
// are other nodes. `above`: n and all nodes by which n can be reached; when any of them has other references than
// handles and those accounted for, somebody may be looking at n: false, and nothing changes.
bool become_leaf(Node* n, std::span<const Accounted> above, std::vector<UOp>& sources);
// The value of n, which n has no longer; nothing when n has other than so many references by now.
StorageRef take_storage(Node* n, std::uint32_t references);
// The same when n has no handle.
StorageRef take_unheld_storage(Node* n);

// --- locations ---------------------------------------------------------------------------------------

// Where the nodes made in this scope (on this thread) come from. Nested scopes: the outermost wins, so that
// an op built from others carries the user's line.
class LocationScope {
 public:
  explicit LocationScope(const std::source_location& where);
  explicit LocationScope(std::uint32_t id);  // overrides: used by rewrites
  ~LocationScope();
  LocationScope(const LocationScope&) = delete;
  LocationScope& operator=(const LocationScope&) = delete;

 private:
  std::uint32_t before_;
};
struct Location {
  std::string file;  // base name
  unsigned line = 0;
};
std::vector<Location> locations(const Node* n);  // first call site first
Location location(std::uint32_t id);
std::string location_text(const Node* n);  // "main.cpp:41", "" when unknown

// What belongs to one use of a graph and enters no hash: it stays with the node that stands for the use (an EVOLVE)
// and goes with it.
struct Labels {
  // The body of this use is shared with others: a node of it whose first call site is `shared` was written at `own`. Bodies
  // within it are told of too.
  struct Place {
    Op op;
    std::uint32_t shared, own;  // location ids
  };
  std::vector<Place> places;
  std::vector<std::string> names;  // of the terms of an energy
  std::string folded;              // of a SCAN made of a plain loop: its lines, "main.cpp:20-24"
  std::string behind;              // why the passes before it are not in it; "" where there are none
  std::string why_loop;            // of a SCAN that the front end made, and that must stay a loop
  Records told;                    // what else the front end has to say of it
  Records found;                   // from the values that this use was given
  bool any() const {
    return !places.empty() || !names.empty() || !folded.empty() || !behind.empty() || !why_loop.empty() ||
           !told.empty() || !found.empty();
  }
};
void set_labels(Node* n, Labels labels);
Labels labels_of(const Node* n);
std::uint32_t first_location(const Node* n);  // id, 0 when unknown
// The text with every " at FILE:LINE" that names another use's line made this use's own; `op`: of the node meant.
std::string with_own_places(std::string text, const Labels& labels, Op op);

// Nodes alive now, in the whole process (tests, leak checks).
std::int64_t live_nodes();

}  // namespace tinyphys
