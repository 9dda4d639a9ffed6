#include "uop/pending.hpp"

#include <algorithm>
#include <utility>

#include "uop/graph.hpp"
#include "uop/history.hpp"

namespace tinyphys {
namespace {

PendingTrace::Full on_full = nullptr;

}  // namespace

constinit thread_local PendingTrace* PendingTrace::trace = nullptr;

PendingTrace& PendingTrace::make() {
  thread_local PendingTrace own;
  return *(trace = &own);
}

void PendingTrace::set(Full full) { on_full = full; }

void PendingTrace::full(std::size_t limit, std::span<const UOp> values) noexcept {
  // While a value is computed (by a progress callback's call) nothing can be folded.
  if (!on_full || ComputeLock::held_here()) {
    limit_ = 2 * nodes_.size();
    return;
  }
  const Pause pause;
  const std::size_t most = on_full(limit, values);
  looked_ = nodes_.size();
  limit_ = looked_ + std::max<std::size_t>(most - std::min(looked_, most / 2), 1);
}

std::vector<PendingTrace::Operation> PendingTrace::take_alive() {
  std::vector<Operation> alive;
  const std::vector<Noted> noted = std::exchange(here().nodes_, {});
  alive.reserve(noted.size());
  // A node may stand where an equal one stood: the last one is what is there.
  NodeMap<char> seen;
  for (std::size_t i = noted.size(); i-- > 0;) {
    UOp u = find_alive(noted[i].node, noted[i].hash);
    if (!u || u->n_src == 0 || storage(u.get()) || has_history(u.get()) || !seen.insert(u.get(), 1)) continue;
    alive.push_back({std::move(u), noted[i].location, noted[i].number});
  }
  std::reverse(alive.begin(), alive.end());
  return alive;
}

void PendingTrace::keep(const std::vector<Operation>& operations) {
  std::vector<Noted>& noted = here().nodes_;
  noted.clear();
  for (const Operation& o : operations) noted.push_back({o.node.get(), o.node->hash, o.location, o.number});
}

}  // namespace tinyphys
