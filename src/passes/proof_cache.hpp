// Proofs are made once for equal graphs.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "uop/uop.hpp"

namespace tinyphys {

// Proofs by the node that stands for all that they rest on, which is kept alive with them. Bounded: it is emptied when full.
// Thread-safe.
template <class Proof> class ProofCache {
 public:
  std::shared_ptr<const Proof> find(const UOp& key) {
    std::lock_guard lock(mutex_);
    const auto it = proofs_.find(key.get());
    return it == proofs_.end() ? nullptr : it->second.second;
  }
  void keep(const UOp& key, std::shared_ptr<const Proof> proof) {
    std::lock_guard lock(mutex_);
    if (proofs_.size() >= kMaxProofs) proofs_.clear();
    proofs_.try_emplace(key.get(), key, std::move(proof));
  }

 private:
  static constexpr std::size_t kMaxProofs = 1024;
  std::mutex mutex_;
  std::unordered_map<const Node*, std::pair<UOp, std::shared_ptr<const Proof>>> proofs_;
};

}  // namespace tinyphys
