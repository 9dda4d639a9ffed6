#include "engine/recall.hpp"

#include "uop/graph.hpp"
#include "uop/pending.hpp"

namespace tinyphys {
namespace {

// What a leaf is in the structure, where an op has its own number.
constexpr std::uint64_t kValue = 0xfe, kNumber = 0xff;

// A COPY is what it copies.
Node* behind_copies(Node* n) {
  while (is_copy(n) && !storage(n)) n = n->src(0);
  return n;
}

std::uint64_t hash_of(std::span<const std::uint64_t> structure) {
  return content_hash(structure.data(), structure.size_bytes()).low;
}

}  // namespace

Recall::Slot& Recall::slot(const Node* n) {
  std::size_t i = static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(n) * 0x9e3779b97f4a7c15u >> 32);
  for (i %= kSlots; slots_[i].walk == walks_ && slots_[i].node != n;) i = (i + 1) % kSlots;
  return slots_[i];
}

bool Recall::walk(std::span<const UOp> values) {
  structure_.clear();
  leaves_.clear();
  stack_.clear();
  if (++walks_ == 0) {
    slots_.assign(kSlots, {});
    walks_ = 1;
  }
  std::uint32_t count = 0;
  const auto word = [&](std::uint64_t x) { structure_.push_back(x); };
  // A node without a number is put on the stack, or is a leaf and gets one.
  const auto reach = [&](Node* n) {
    Slot& s = slot(n);
    if (s.walk == walks_) return;
    const bool value = storage(n) != nullptr;
    if (!value && (n->op != Op::CONST || is_structural_const(n))) {
      stack_.emplace_back(n, 0);
      return;
    }
    s = {n, count++, walks_};
    word((value ? kValue : kNumber) | static_cast<std::uint64_t>(n->dtype) << 8 |
         static_cast<std::uint64_t>(n->n_dim) << 16);
    for (const std::int64_t d : n->shape()) word(static_cast<std::uint64_t>(d));
    leaves_.push_back(n);
  };
  for (const UOp& v : values) {
    reach(behind_copies(v.get()));
    while (!stack_.empty()) {
      const auto [n, next] = stack_.back();
      if (next == 0) {
        const bool other = n->op == Op::LAMBDA || n->op == Op::SYM || n->op == Op::PARAM ||
                           n->op == Op::GET || n->op == Op::COPY || n->op == Op::BUFFER || is_loop(n->op);
        if (other) return false;
      }
      if (next < n->n_src) {
        ++stack_.back().second;
        reach(behind_copies(n->src(next)));
        if (count + stack_.size() > kMaxNodes) return false;
        continue;
      }
      stack_.pop_back();
      slot(n) = {n, count++, walks_};
      word(static_cast<std::uint64_t>(n->op) | static_cast<std::uint64_t>(n->dtype) << 8 |
           static_cast<std::uint64_t>(n->n_src) << 16 | static_cast<std::uint64_t>(n->n_arg) << 48);
      for (const std::int64_t a : n->arg()) word(static_cast<std::uint64_t>(a));
      for (Node* x : n->src()) word(slot(behind_copies(x)).number);
    }
    word(slot(behind_copies(v.get())).number);
  }
  return complete_ = true;
}

std::optional<Recall::Found> Recall::find(std::span<const UOp> values) {
  if (values.empty() || !walk(values)) {
    complete_ = false;
    return {};
  }
  const auto [begin, end] = kept_.equal_range(hash_of(structure_));
  for (auto it = begin; it != end; ++it) {
    const Kept& k = it->second;
    if (k.structure != structure_) continue;
    count_visited(leaves_.size());
    Found found;
    found.canonical.program = k.program;
    found.canonical.arguments.reserve(k.order.size());
    for (const std::uint32_t i : k.order) {
      const Node* n = leaves_[i];
      if (Storage* s = storage(n)) {
        if (s->origin && found.origin != s->origin) {
          found.many_origins |= found.origin != nullptr;
          found.origin = s->origin;
        }
        found.canonical.arguments.push_back({StorageRef::share(s), 0});
      } else {
        found.canonical.arguments.push_back({{}, n->arg(1)});
      }
    }
    return found;
  }
  return {};
}

void Recall::keep(const Canonical& canonical) {
  if (!complete_) return;
  Kept k{structure_, canonical.program, {}};
  for (const Node* n : canonical.nodes) {
    const Slot& s = slot(n);
    if (s.walk != walks_) return;
    std::uint32_t leaf = 0;
    while (leaf < leaves_.size() && leaves_[leaf] != n) ++leaf;
    if (leaf == leaves_.size()) return;
    k.order.push_back(leaf);
  }
  if (kept_.size() >= kMaxKept) kept_.clear();
  kept_.emplace(hash_of(structure_), std::move(k));
}

}  // namespace tinyphys
