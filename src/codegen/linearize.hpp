// Loop nest to linear program: each value is computed once, in the outermost loop that has all it depends on.
#pragma once

#include "codegen/kernel.hpp"

namespace tinyphys {

Program linearize(const LoopNest& nest, IndexMath& math);

// Which loops each node of a kernel graph depends on (one bit per RANGE or LOOP), and how many reductions or
// loops must run before it.
class Dependence {
 public:
  explicit Dependence(const LoopNest& nest);
  std::uint64_t loops(const Node* n) const { return info_.at(n).loops; }
  int stage(const Node* n) const { return info_.at(n).stage; }
  std::uint64_t bit(const Node* range) const;
  const std::vector<Node*>& order() const { return order_; }  // sources first

 private:
  struct Info {
    std::uint64_t loops = 0;
    int stage = 0;
  };
  std::uint64_t new_bit(std::map<std::int64_t, std::uint64_t>& bits, std::int64_t key);
  NodeMap<Info> info_;
  std::map<std::int64_t, std::uint64_t> scan_bits_;
  NodeMap<std::uint64_t> range_bits_;
  int n_bits_ = 0;
  std::vector<Node*> order_;
};

// How an index moves with one loop variable: by a constant per step, or in another way (nullopt).
std::optional<std::int64_t> stride(IndexMath& math, Node* index, const Node* range,
                                   const Dependence& dependence);

// A load without a gate from an array of pairs, of the first or of the second of one.
bool reads_pairs(const Node* load, IndexMath& math);
// The stores that are one: two values side by side, each pair two elements from the last. First to second.
std::map<const Node*, Node*> paired_stores(const LoopNest& nest, IndexMath& math);

}  // namespace tinyphys
