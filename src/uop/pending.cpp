#include "uop/pending.hpp"

#include <algorithm>
#include <utility>

#include "uop/history.hpp"

namespace tinyphys {
namespace {

PendingTrace::Full on_full = nullptr;

}  // namespace

void PendingTrace::set(Full full) { on_full = full; }

void PendingTrace::full(std::size_t limit, std::span<const UOp> values) noexcept {
  // While a value is computed (by a progress callback's call) nothing can be folded.
  if (!on_full || ComputeLock::held_here()) {
    limit_ = 2 * nodes_.size();
    return;
  }
  const Pause pause;
  const std::size_t most = on_full(limit, values);
  limit_ = nodes_.size() + std::max<std::size_t>(most - std::min(nodes_.size(), most / 2), 1);
}

std::vector<PendingTrace::Operation> PendingTrace::take_alive() {
  std::vector<Operation> alive;
  const std::vector<Noted> noted = std::exchange(here().nodes_, {});
  alive.reserve(noted.size());
  for (const Noted& n : noted)
    if (UOp u = find_alive(n.node, n.hash); u && u->n_src > 0 && !storage(u.get()) && !has_history(u.get()))
      alive.push_back({std::move(u), n.location});
  return alive;
}

void PendingTrace::keep(const std::vector<Operation>& operations) {
  std::vector<Noted>& noted = here().nodes_;
  noted.clear();
  for (const Operation& o : operations) noted.push_back({o.node.get(), o.node->hash, o.location});
}

}  // namespace tinyphys
