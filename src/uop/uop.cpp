#include "uop/uop.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <sys/mman.h>
#include <thread>
#include <unordered_map>

#include "support/devices.hpp"
#include "support/hash.hpp"
#include "support/small_vector.hpp"
#include "support/spin_lock.hpp"
#include "tinyphys/error.hpp"
#include "uop/derive.hpp"
#include "uop/history.hpp"
#include "uop/pending.hpp"

namespace tinyphys {
namespace {

constexpr std::size_t kSizeStep = 32;
constexpr std::size_t kSizeClasses = 16;  // larger nodes come from malloc
constexpr std::uint8_t kMallocClass = 255;
constexpr std::size_t kFirstSlab = std::size_t{1} << 14;
constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::size_t kShards = 16;

// Memory for many nodes at random addresses: what is a huge page or more asks for huge pages, since half the time of
// building a large graph went into address translation and page faults.
void* allocate_pages(std::size_t bytes) {
  if (bytes < kHugePage) return ::operator new(bytes);
  void* p = std::aligned_alloc(kHugePage, bytes);
  if (!p) throw std::bad_alloc();
  madvise(p, bytes, MADV_HUGEPAGE);  // only advice: without it the memory is as right
  return p;
}
void free_pages(void* p, std::size_t bytes) {
  if (bytes < kHugePage)
    ::operator delete(p);
  else
    std::free(p);
}

// One part of the intern table with the memory of its nodes; all under one lock. Open addressing with the hashes
// beside the pointers: a search or a growing table touches no node but the one it looks for.
struct Shard {
  struct Entry {
    std::uint32_t hash = 0;
    Node* node = nullptr;
  };
  SpinLock mutex;
  static constexpr std::size_t kSmallest = 256, kSparse = 8;
  Entry* entries = new_entries(kSmallest);
  std::size_t capacity = kSmallest;  // a power of two
  std::size_t count = 0;
  std::array<void*, kSizeClasses> free{};
  char* slab = nullptr;
  std::size_t slab_left = 0;
  std::size_t next_slab = kFirstSlab;

  static Entry* new_entries(std::size_t n) {
    auto* e = static_cast<Entry*>(allocate_pages(n * sizeof(Entry)));
    std::uninitialized_fill_n(e, n, Entry{});
    return e;
  }

  void* allocate(std::size_t bytes, std::uint8_t& size_class) {
    const std::size_t c = (bytes + kSizeStep - 1) / kSizeStep;
    if (c >= kSizeClasses) {
      size_class = kMallocClass;
      void* p = std::malloc(bytes);
      if (!p) throw std::bad_alloc();
      return p;
    }
    size_class = static_cast<std::uint8_t>(c);
    if (void* p = free[c]) {
      std::memcpy(&free[c], p, sizeof(void*));
      if (free[c]) fetch(free[c]);
      return p;
    }
    const std::size_t need = c * kSizeStep;
    if (slab_left < need) {
      slab = static_cast<char*>(allocate_pages(next_slab));  // kept for the life of the process
      slab_left = next_slab;
      next_slab = std::min(next_slab * 2, kHugePage);
    }
    void* p = slab;
    slab += need;
    slab_left -= need;
    if (slab_left >= need) fetch(slab);
    return p;
  }
  // The memory of the next node: on its way while this one is filled in.
  static void fetch(void* p) {
    __builtin_prefetch(p, 1);
    __builtin_prefetch(static_cast<char*>(p) + 64, 1);
  }
  void release(Node* n) {
    const std::uint8_t c = n->size_class;
    n->~Node();
    if (c == kMallocClass) {
      std::free(n);
      return;
    }
    std::memcpy(static_cast<void*>(n), &free[c], sizeof(void*));
    free[c] = n;
  }
  std::size_t home(std::uint32_t hash) const { return (hash >> 4) & (capacity - 1); }
  std::size_t after(std::size_t i) const { return (i + 1) & (capacity - 1); }

  void insert(Node* n) {
    if (++count * 2 > capacity) resize(2 * capacity);
    place({n->hash, n});
  }
  void resize(std::size_t to) {
    Entry* old = entries;
    const std::size_t before = capacity;
    entries = new_entries(to);
    capacity = to;
    for (std::size_t i = 0; i < before; ++i)
      if (old[i].node) place(old[i]);
    free_pages(old, before * sizeof(Entry));
  }
  void place(const Entry& e) {
    std::size_t i = home(e.hash);
    while (entries[i].node) i = after(i);
    entries[i] = e;
  }
  void erase(const Node* n) {
    std::size_t hole = home(n->hash);
    while (entries[hole].node != n) hole = after(hole);
    // Entries behind the hole that a search would no longer reach move up into it.
    for (std::size_t i = after(hole); entries[i].node; i = after(i)) {
      const std::size_t from = home(entries[i].hash);
      const bool reachable = hole <= i ? hole < from && from <= i : hole < from || from <= i;
      if (reachable) continue;
      entries[hole] = entries[i];
      hole = i;
    }
    entries[hole] = {};
    // After a huge graph: a table that does not fit into the cache would slow down all that comes later.
    if (--count >= capacity / kSparse || capacity <= kSmallest) return;
    try {
      resize(capacity / 2);
    } catch (const std::bad_alloc&) {
      // It stays as it is.
    }
  }
};

// Leaked on purpose: handles held by static objects are dropped after any destructor order we could choose.
std::array<Shard, kShards>& make_shards();
constinit std::atomic<std::array<Shard, kShards>*> made_shards{nullptr};
std::array<Shard, kShards>& shards() {
  auto* s = made_shards.load(std::memory_order_acquire);
  return s ? *s : make_shards();
}
[[gnu::noinline]] std::array<Shard, kShards>& make_shards() {
  static auto* s = new std::array<Shard, kShards>;
  made_shards.store(s, std::memory_order_release);
  return *s;
}
Shard& shard_of(std::uint32_t hash) { return shards()[hash & (kShards - 1)]; }

template <std::size_t N, std::size_t A>
std::uint32_t hash_of(Op op, std::span<Node* const, N> src, std::span<const std::int64_t, A> arg) {
  std::uint64_t h = hash_mix(static_cast<std::uint64_t>(op) + 1, src.size() * 31 + arg.size());
  for (Node* s : src) h = hash_mix(h, reinterpret_cast<std::uintptr_t>(s));
  for (std::int64_t a : arg) h = hash_mix(h, static_cast<std::uint64_t>(a));
  return static_cast<std::uint32_t>(h ^ (h >> 32));
}

bool equals(const Node* n, Op op, std::span<Node* const> src, std::span<const std::int64_t> arg) {
  return n->op == op && n->n_src == src.size() && n->n_arg == arg.size() &&
         std::equal(src.begin(), src.end(), n->src().begin()) &&
         std::equal(arg.begin(), arg.end(), n->arg().begin());
}

// --- locations: ids are interned for the life of the process ---

struct LocationTable {
  std::mutex mutex;
  std::vector<Location> entries{Location{}};
  std::map<std::pair<const void*, unsigned>, std::uint32_t> ids;
  // Nodes made at several places share a list of these, in the order in which they came.
  std::vector<std::vector<std::uint32_t>> lists;
  std::map<std::vector<std::uint32_t>, std::uint32_t> list_ids;
  std::unordered_map<const Node*, Labels> labels;
};
LocationTable& location_table() {
  static auto* t = new LocationTable;
  return *t;
}
thread_local std::uint32_t current_location = 0;
// Set in Node::location when the side table holds labels; and when the rest is the number of a list of places.
constexpr std::uint32_t kLabelled = std::uint32_t{1} << 31, kList = std::uint32_t{1} << 30;
std::uint32_t place_of(const Node* n) { return n->location.load(std::memory_order_relaxed) & ~kLabelled; }
// Under the lock.
std::vector<std::uint32_t> list_of(const LocationTable& t, std::uint32_t place) {
  if (place & kList) return t.lists[place & ~kList];
  return place == 0 ? std::vector<std::uint32_t>() : std::vector{place};
}
std::uint32_t first_of(std::uint32_t place) {
  if (!(place & kList)) return place;
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  return t.lists[place & ~kList][0];
}
// `place` with one more at its end, or `place` itself where that is among it, or where they are too many.
std::uint32_t with_place(std::uint32_t place, std::uint32_t id) {
  struct Seen {
    std::uint32_t place = 0, id = 0, both = 0;
  };
  thread_local std::array<Seen, 64> recent;  // as in location_id
  Seen& seen = recent[(place * 31 + id) % recent.size()];
  if (seen.id == id && seen.place == place) return seen.both;
  constexpr std::size_t kMaxLocations = 16, kMaxLists = std::size_t{1} << 20;
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  std::vector<std::uint32_t> list = list_of(t, place);
  std::uint32_t both = place;
  if (list.size() < kMaxLocations && std::find(list.begin(), list.end(), id) == list.end()) {
    list.push_back(id);
    const auto known = t.list_ids.find(list);
    if (known != t.list_ids.end()) {
      both = known->second;
    } else if (t.lists.size() < kMaxLists) {
      both = kList | static_cast<std::uint32_t>(t.lists.size());
      t.lists.push_back(list);
      t.list_ids.emplace(std::move(list), both);
    }
  }
  seen = {place, id, both};
  return both;
}

std::uint32_t location_id(const std::source_location& where) {
  // The lines of one loop body, at least, are found without the lock.
  struct Seen {
    const void* file = nullptr;
    unsigned line = 0;
    std::uint32_t id = 0;
  };
  thread_local std::array<Seen, 64> recent;
  Seen& seen =
      recent[(where.line() ^ reinterpret_cast<std::uintptr_t>(where.file_name()) >> 4) % recent.size()];
  if (seen.id != 0 && seen.file == where.file_name() && seen.line == where.line()) return seen.id;
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  auto [it, fresh] = t.ids.try_emplace({where.file_name(), where.line()}, 0);
  if (fresh) {
    std::string file = where.file_name();
    if (const auto slash = file.rfind('/'); slash != std::string::npos) file.erase(0, slash + 1);
    it->second = static_cast<std::uint32_t>(t.entries.size());
    t.entries.push_back({std::move(file), where.line()});
  }
  seen = {where.file_name(), where.line(), it->second};
  return it->second;
}

// The place of a node made now, 0 for none. Numbers, and what is made of numbers alone, are shared by every program: a
// place would be somebody else's.
std::uint32_t own_location(Op op, std::uint8_t flags) {
  constexpr std::uint8_t kOwned = Node::kHasSym | Node::kHasBuffer | Node::kHasParam;
  return op != Op::PARAM && ((flags & kOwned) || traits(op).cls == OpClass::kWhole) ? current_location : 0;
}

// A further place of a node that is there.
void note_location(Node* n) {
  const std::uint32_t id = own_location(n->op, n->flags);
  if (id == 0) return;
  std::uint32_t word = n->location.load(std::memory_order_relaxed);
  for (;;) {
    const std::uint32_t place = word & ~kLabelled,
                        now = place == 0 || place == id ? id : with_place(place, id);
    if (now == place ||
        n->location.compare_exchange_weak(word, now | (word & kLabelled), std::memory_order_relaxed))
      return;
  }
}

std::atomic<std::int64_t> next_id{1};

}  // namespace

// --- values ---

std::size_t bytes_of(DType d, std::span<const std::int64_t> shape) {
  std::size_t bytes = item_size(d);
  bool fits = true, empty = false;
  for (std::int64_t extent : shape) {
    empty |= extent == 0;
    fits = fits && !__builtin_mul_overflow(bytes, static_cast<std::size_t>(extent), &bytes);
  }
  return empty ? 0 : fits ? bytes : SIZE_MAX;
}
std::string out_of_memory(DType d, std::span<const std::int64_t> shape) {
  return "out of memory: " + std::string(name(d)) + shape_text(shape) + " takes " +
         std::to_string(bytes_of(d, shape)) + " bytes";
}
StorageRef allocate(DType d, std::span<const std::int64_t> shape, Memory& memory) {
  try {
    return StorageRef::allocate(bytes_of(d, shape), memory);
  } catch (const Error&) {
    throw Error("allocate", out_of_memory(d, shape), "", 0);
  }
}

void set_storage(Node* n, StorageRef s) {
  Storage* none = nullptr;
  Storage* p = s.get();
  if (n->storage.compare_exchange_strong(none, p, std::memory_order_acq_rel)) s.detach();
}

// --- making and destroying ---

namespace {

// The one device that sources are on; throws tp::Error for two.
std::uint8_t device_flags(Op op, std::span<Node* const> src) {
  int on = 0;
  for (const Node* s : src) {
    const int device = s->op == Op::LAMBDA ? 0 : s->device();
    if (device == 0 || device == on) continue;
    if (on != 0) {
      const Location at = current_location ? location(current_location) : Location{};
      std::string call(name(op));
      for (char& c : call) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      throw Error(call, different_devices(on, device), at.file.c_str(), at.line);
    }
    on = device;
  }
  return static_cast<std::uint8_t>(on << Node::kDeviceShift);
}
std::uint8_t flags_of_copy(const Node* source, std::int64_t device) {
  const bool crosses = source->device() != device;  // what was moved is data, of a constant too
  return static_cast<std::uint8_t>(device << Node::kDeviceShift |
                                   (crosses ? Node::kCrosses | Node::kHasBuffer : 0));
}

// What a new node is of, beside its op, sources and args.
struct Result {
  DType dtype;
  std::span<const std::int64_t> shape;
  std::uint8_t flags;
};

// What a node takes over of the flags of a source.
constexpr std::uint8_t kFree = Node::kHasSym | Node::kHasBuffer | Node::kHasParam | Node::kCrosses;

std::uint8_t flags_of(Op op, std::span<Node* const> src, std::span<const std::int64_t> arg, DType dtype) {
  std::uint8_t flags = op == Op::COPY ? flags_of_copy(src[0], arg[0]) : device_flags(op, src);
  if (op == Op::SYM) flags = Node::kHasSym;
  if (op == Op::BUFFER) flags = Node::kHasBuffer;
  if (op == Op::PARAM) flags = Node::kHasParam;
  if (is_complex(dtype)) flags |= Node::kHasComplex;
  // A LAMBDA is closed: nothing of its body is free outside.
  const std::uint8_t inherited = op == Op::LAMBDA ? Node::kHasComplex : kFree | Node::kHasComplex;
  for (Node* s : src) flags |= s->flags & inherited;
  return flags;
}

// The node, or a new one with the dtype, shape and flags that `result` gives. `taken`: the references to the sources, which a
// new node takes over; or null. The extents N and A are known where most nodes are made.
template <std::size_t N, std::size_t A, class F>
UOp intern(Op op, std::span<Node* const, N> src, std::span<const std::int64_t, A> arg, UOp* taken,
           F&& result) {
  const std::uint32_t h = hash_of(op, src, arg);
  Shard& shard = shard_of(h);
  std::lock_guard lock(shard.mutex);
  for (std::size_t i = shard.home(h); shard.entries[i].node; i = shard.after(i))
    if (Node* n = shard.entries[i].node;
        shard.entries[i].hash == h && equals(n, op, src, arg) && n->refs.add_if_alive()) {
      note_location(n);
      return UOp::adopt(n);
    }
  const Result r = result();  // makes no node, so it may run under the lock; throws for a malformed one
  constexpr std::size_t kMax = std::numeric_limits<std::uint16_t>::max();
  if (arg.size() > kMax || r.shape.size() > kMax)
    throw Error("uop", std::string(name(op)) + " with more than " + std::to_string(kMax) + " args or axes",
                "", 0);
  const std::size_t bytes = std::max(
      Node::kMinBytes, sizeof(Node) + (src.size() + std::max<std::size_t>(arg.size(), 1) + r.shape.size()) *
                                          sizeof(std::int64_t));  // room for become_copy
  std::uint8_t size_class = 0;
  void* memory = shard.allocate(bytes, size_class);
  Node* n = new (memory) Node{{},
                              op,
                              r.dtype,
                              r.flags,
                              size_class,
                              static_cast<std::uint32_t>(src.size()),
                              static_cast<std::uint16_t>(arg.size()),
                              static_cast<std::uint16_t>(r.shape.size()),
                              {own_location(op, r.flags)},
                              h,
                              {0},
                              {nullptr}};
  auto* tail = reinterpret_cast<std::int64_t*>(n + 1);
  for (std::size_t i = 0; i < src.size(); ++i) {
    Node* s = src[i];
    if (taken)
      (void)taken[i].detach();
    else
      s->refs.add();
    std::memcpy(tail++, &s, sizeof(Node*));
  }
  for (std::int64_t a : arg) *tail++ = a;
  for (std::int64_t d : r.shape) *tail++ = d;
  shard.insert(n);
  constexpr std::uint8_t kOpen = Node::kHasSym | Node::kHasParam;
  if (!(r.flags & kOpen) && !src.empty() && op != Op::LAMBDA && !ComputeLock::held_here())
    PendingTrace::note(n, current_location);
  return UOp::adopt(n);
}

}  // namespace

UOp make(Op op, std::span<Node* const> src, std::span<const std::int64_t> arg) {
  return intern(op, src, arg, nullptr, [&]() -> Result {
    thread_local Derived derived;
    derive(op, src, arg, derived);
    return {derived.dtype, derived.shape, flags_of(op, src, arg, derived.dtype)};
  });
}
UOp make_of(Op op, std::span<UOp, 2> src) {
  const std::array<Node*, 2> nodes{src[0].get(), src[1].get()};
  const auto [a, b] = nodes;
  return intern(op, std::span<Node* const, 2>(nodes), std::span<const std::int64_t, 0>(), src.data(),
                [&]() -> Result {
                  const DType d = traits(op).cls == OpClass::kCompare ? DType::kBool : a->dtype;
                  // One device, or one of them on none: both their bits are those of the result.
                  if (a->device() != b->device() && a->device() != 0 && b->device() != 0)
                    (void)device_flags(op, nodes);
                  return {d, a->shape(), static_cast<std::uint8_t>(a->flags | b->flags)};
                });
}

// Sources whose count falls to 0 join an explicit stack: chains of 10^6 nodes are normal here.
void destroy_node(Node* first) {
  SmallVector<Node*, 32> dead{first};
  while (!dead.empty()) {
    Node* n = dead.back();
    dead.pop_back();
    // Acquire: the history may have forgotten it a moment ago on another thread, and its memory is used again.
    if (n->history.load(std::memory_order_acquire)) history_erase(n);
    for (Node* s : n->src()) {
      const std::uint32_t watched = s->history.load(std::memory_order_relaxed);
      if (s->refs.drop())
        dead.push_back(s);
      else if (watched)
        history_note(s, watched);
    }
    if (Storage* s = n->storage.load(std::memory_order_acquire))
      if (s->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete s;
    if (n->location.load(std::memory_order_relaxed) & kLabelled) {
      LocationTable& t = location_table();
      std::lock_guard lock(t.mutex);
      t.labels.erase(n);
    }
    Shard& shard = shard_of(n->hash);
    std::lock_guard lock(shard.mutex);
    shard.erase(n);
    shard.release(n);
  }
}

namespace {

// Calls `change` on n when nobody can be looking at it, or at what is above it, but for those accounted for.
template <class Change> bool change_unseen(Node* n, std::span<const Accounted> above, const Change& change) {
  Shard& shard = shard_of(n->hash);
  std::lock_guard lock(shard.mutex);  // a search of the table looks at nodes without a reference
  std::size_t claimed = 0;
  while (claimed < above.size() && above[claimed].node->refs.claim(above[claimed].references)) ++claimed;
  const bool all = claimed == above.size();
  if (all) change();
  while (claimed > 0) above[--claimed].node->refs.unclaim();
  return all;
}

}  // namespace

bool become_leaf(Node* n, std::span<const Accounted> above, std::vector<UOp>& sources) {
  sources.reserve(sources.size() + n->n_src);
  return change_unseen(n, above, [&] {
    for (Node* s : n->src()) sources.push_back(UOp::adopt(s));
    const auto shape = n->shape();
    std::memmove(static_cast<void*>(n + 1), shape.data(), shape.size_bytes());
    n->op = Op::BUFFER;
    for (const Accounted& a : above)
      a.node->flags |= Node::kHasBuffer;  // a constant of the program text is data now
    n->flags = static_cast<std::uint8_t>(Node::kHasBuffer | n->device() << Node::kDeviceShift |
                                         (is_complex(n->dtype) ? Node::kHasComplex : 0));
    n->n_src = 0;
    n->n_arg = 0;
  });
}

bool become_copy(Node* n, const UOp& source, std::span<const Accounted> above, std::vector<UOp>& sources) {
  if (n->n_src == 0) return false;
  sources.reserve(sources.size() + n->n_src);
  return change_unseen(n, above, [&] {
    for (Node* s : n->src()) sources.push_back(UOp::adopt(s));
    const auto shape = n->shape();
    auto* words = reinterpret_cast<std::int64_t*>(n + 1);
    std::memmove(words + 2, shape.data(), shape.size_bytes());
    Node* now = UOp(source).detach();
    std::memcpy(words, &now, sizeof now);
    words[1] = n->device();
    n->op = Op::COPY;
    for (const Accounted& a : above)
      a.node->flags |= source->flags;  // what was made of numbers alone has data below now
    n->n_src = 1;
    n->n_arg = 1;
  });
}

UOp find_alive(const Node* n, std::uint32_t hash) {
  Shard& shard = shard_of(hash);
  std::lock_guard lock(shard.mutex);
  for (std::size_t i = shard.home(hash); shard.entries[i].node; i = shard.after(i))
    if (Node* found = shard.entries[i].node; found == n && shard.entries[i].hash == hash)
      return found->refs.add_if_alive() ? UOp::adopt(found) : UOp();
  return {};
}

namespace {

// The value of n, unless somebody took n up meanwhile, who may have seen it.
template <class Still> StorageRef take_storage_if(Node* n, const Still& still) {
  Storage* s = n->storage.exchange(nullptr, std::memory_order_seq_cst);
  if (!s) return {};
  Storage* none = nullptr;
  if (!still() && n->storage.compare_exchange_strong(none, s, std::memory_order_seq_cst)) return {};
  return StorageRef::adopt(s);
}

}  // namespace

StorageRef take_storage(Node* n, std::uint32_t references) {
  return take_storage_if(n, [&] { return n->refs.load() == references; });
}
StorageRef take_unheld_storage(Node* n) {
  return take_storage_if(n, [&] { return n->refs.handles() == 0; });
}

namespace {
std::atomic<std::uint64_t> n_handle_changes{0};
}  // namespace
std::uint64_t handle_changes() { return n_handle_changes.load(std::memory_order_relaxed); }
void note_handle_change() noexcept {
  if (!quiet_handles()) n_handle_changes.fetch_add(1, std::memory_order_relaxed);
}
bool& quiet_handles() {
  thread_local bool quiet = false;
  return quiet;
}

void release_handle(Node* n) noexcept {
  const std::uint32_t watched = n->history.load(std::memory_order_relaxed);
  const RefCount::Dropped d = n->refs.drop_handle();
  if (d.watched) note_handle_change();
  if (d.last_reference)
    destroy_node(n);
  else if (d.last_handle && watched)
    history_note(n, watched);
  let_go_soon();
}

void RefCount::wait() const {
  while (word_.load(std::memory_order_acquire) & kClaimed) std::this_thread::yield();
}

std::int64_t live_nodes() {
  std::int64_t total = 0;
  for (Shard& s : shards()) {
    std::lock_guard lock(s.mutex);
    total += static_cast<std::int64_t>(s.count);
  }
  return total;
}

UOp make(Op op, std::span<const UOp> src, std::span<const std::int64_t> arg) {
  // UOp is one pointer, so that an array of handles is an array of nodes.
  static_assert(sizeof(UOp) == sizeof(Node*) && alignof(UOp) == alignof(Node*));
  std::array<Node*, 8> few;
  if (src.size() <= few.size()) {
    for (std::size_t i = 0; i < src.size(); ++i) few[i] = src[i].get();
    return make(op, std::span<Node* const>(few.data(), src.size()), arg);
  }
  std::vector<Node*> many(src.size());
  for (std::size_t i = 0; i < src.size(); ++i) many[i] = src[i].get();
  return make(op, std::span<Node* const>(many), arg);
}
UOp make(Op op, std::initializer_list<UOp> src, std::span<const std::int64_t> arg) {
  return make(op, std::span<const UOp>(src.begin(), src.size()), arg);
}
UOp make(Op op, std::initializer_list<UOp> src, std::initializer_list<std::int64_t> arg) {
  return make(op, std::span<const UOp>(src.begin(), src.size()),
              std::span<const std::int64_t>(arg.begin(), arg.size()));
}
UOp with_sources(const Node* n, std::span<Node* const> src) { return make(n->op, src, n->arg()); }

namespace {

UOp leaf(Op op, std::int64_t first, DType d, std::span<const std::int64_t> shape, std::int64_t kind = -1) {
  SmallVector<std::int64_t, 8> arg{first, static_cast<std::int64_t>(d)};
  if (kind >= 0) arg.push_back(kind);
  arg.append(shape);
  return make(op, std::span<const UOp>(), arg);
}

}  // namespace

UOp constant(double v, DType d) {
  if (is_complex(d)) return make(Op::CAST, {constant(v, real_dtype(d))}, {static_cast<std::int64_t>(d)});
  if (is_integer(d)) return constant_int(static_cast<std::int64_t>(v), d);
  if (d == DType::kBool) return constant_bool(v != 0);
  if (d == DType::kFloat32) v = static_cast<float>(v);
  return make(Op::CONST, {}, {static_cast<std::int64_t>(d), bits(v)});
}
UOp constant_int(std::int64_t v, DType d) {
  if (is_float(d) || is_complex(d)) return constant(static_cast<double>(v), d);
  if (d == DType::kBool) return constant_bool(v != 0);
  if (d == DType::kInt32) v = static_cast<std::int32_t>(v);
  return make(Op::CONST, {}, {static_cast<std::int64_t>(d), v});
}
UOp constant_bool(bool v) {
  return make(Op::CONST, {}, {static_cast<std::int64_t>(DType::kBool), v ? 1 : 0});
}

UOp buffer(DType d, std::span<const std::int64_t> shape, StorageRef data) {
  UOp u = leaf(Op::BUFFER, next_id.fetch_add(1, std::memory_order_relaxed), d, shape);
  set_storage(u.get(), std::move(data));
  return u;
}
UOp symbol(DType d, std::span<const std::int64_t> shape) {
  return leaf(Op::SYM, next_id.fetch_add(1, std::memory_order_relaxed), d, shape);
}
UOp param(std::int64_t index, DType d, std::span<const std::int64_t> shape, bool scalar_slot) {
  return leaf(Op::PARAM, index, d, shape, scalar_slot ? 1 : 0);
}
UOp get(const UOp& whole, std::int64_t i) { return make(Op::GET, {whole}, {i}); }

double const_double(const Node* n) {
  return is_float(n->dtype) ? from_bits(n->arg(1)) : static_cast<double>(n->arg(1));
}
std::int64_t const_int(const Node* n) {
  return is_float(n->dtype) ? static_cast<std::int64_t>(from_bits(n->arg(1))) : n->arg(1);
}
bool is_const(const Node* n, double v) {
  if (n->op != Op::CONST) return false;
  return is_float(n->dtype) ? n->arg(1) == bits(v) : static_cast<double>(n->arg(1)) == v;
}

Dims shape_of(const Node* n) { return Dims(n->shape().begin(), n->shape().end()); }
std::string shape_text(std::span<const std::int64_t> shape) {
  std::string s = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

// --- locations ---

LocationScope::LocationScope(const std::source_location& where) : before_(current_location) {
  if (before_ == 0) current_location = location_id(where);
}
LocationScope::LocationScope(std::uint32_t id) : before_(current_location) {
  current_location = first_of(id & ~kLabelled);
}
LocationScope::~LocationScope() {
  current_location = before_;
  if (before_ == 0) PendingTrace::call_ended();
}

std::vector<Location> locations(const Node* n) {
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  std::vector<Location> out;
  for (const std::uint32_t id : list_of(t, place_of(n))) out.push_back(t.entries[id]);
  return out;
}
Location location(std::uint32_t id) {
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  return t.entries[id];
}
std::uint32_t first_location(const Node* n) { return first_of(place_of(n)); }

void set_labels(Node* n, Labels labels) {
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  n->location.fetch_or(kLabelled, std::memory_order_relaxed);
  t.labels[n] = std::move(labels);
}
Labels labels_of(const Node* n) {
  if (!(n->location.load(std::memory_order_relaxed) & kLabelled)) return {};
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  const auto it = t.labels.find(n);
  return it == t.labels.end() ? Labels{} : it->second;
}

std::string with_own_places(std::string text, const Labels& labels, Op op) {
  if (labels.places.empty()) return text;
  LocationTable& t = location_table();
  std::lock_guard lock(t.mutex);
  const auto place = [&](std::uint32_t id) {
    return t.entries[id].file + ":" + std::to_string(t.entries[id].line);
  };
  // One that is of the op in question first.
  for (const bool same_op : {true, false})
    for (const Labels::Place& p : labels.places) {
      if ((p.op == op) != same_op) continue;
      const std::string shared = " at " + place(p.shared), own = " at " + place(p.own);
      for (std::size_t i = 0; (i = text.find(shared, i)) != std::string::npos; i += own.size()) {
        const std::size_t end = i + shared.size();
        if (end < text.size() && text[end] >= '0' && text[end] <= '9') continue;  // a longer line number
        text.replace(i, shared.size(), own);
      }
    }
  return text;
}

void index_out_of_range(Op op, std::int64_t index, std::int64_t extent, const Node* where) {
  const auto places = locations(where);
  throw Error(op == Op::GATHER ? "gather" : "scatter_add",
              "index " + std::to_string(index) + " is out of range for an axis of " + std::to_string(extent),
              places.empty() ? "" : places.front().file.c_str(), places.empty() ? 0 : places.front().line);
}

std::string location_text(const Node* n) {
  const auto list = locations(n);
  return list.empty() ? "" : list.front().file + ":" + std::to_string(list.front().line);
}

}  // namespace tinyphys
