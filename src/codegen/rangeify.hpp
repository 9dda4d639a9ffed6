// From tensors to scalars: the value of a tensor node at an index, as a graph over RANGE, LOAD and
// ACCUMULATE.
//
// The walk goes in reverse from the outputs. Movement ops become index arithmetic; PAD and CAT become WHEREs
// over loads that are gated (no access where the condition is false); REDUCE becomes ACCUMULATE over fresh
// ranges. In unrolled mode (scan kernels: every index is a number) reductions become sums of scalars and a
// SCAN becomes a LOOP whose carry is one STATE per element.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "codegen/index.hpp"
#include "codegen/members.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

class Rangeify {
 public:
  Rangeify(IndexMath& math, bool unroll) : math_(math), unroll_(unroll) {}

  // The scalar at this index. Throws tp::Error for nodes that no kernel can hold.
  UOp lower(Node* n, std::vector<UOp> index);

  // Adjacent axes of a REDUCE share one loop unless its number is in here (see reductions()).
  void keep_axes_apart(const Node* reduce) { apart_.insert(reduce); }
  // For each loop over several axes: the REDUCEs that use it.
  const std::map<Node*, std::vector<const Node*>>& collapsed() const { return collapsed_; }

  // The LOOP of a SCAN, with the given bounds and stores left to the caller: of one member, that of the ranges of `members`, if
  // there are some.
  struct ScanBody {
    std::int64_t id;
    UOp step;
    std::vector<UOp> ranges;         // over the members, outer first
    std::vector<UOp> initial, next;  // one per scalar of the carry of a member
    UOp until;                       // a bool: the step is the last one when true; may be null
    std::vector<std::pair<std::size_t, UOp>> places;  // of each: which carry, and its flat index there
    std::vector<std::pair<UOp, UOp>> stacked;         // flat index, value; in order of outputs, see out_of
    std::vector<std::int64_t> out_of;                 // which stacked output
  };
  ScanBody scan_body(Node* scan, const Members& members = {});

 private:
  struct Task {
    Node* node;
    int index;  // into tuples_
    Node* gate;
    friend bool operator==(const Task&, const Task&) = default;
  };
  struct TaskHash {
    std::size_t operator()(const Task& t) const {
      return (reinterpret_cast<std::uintptr_t>(t.node) >> 4) * 0x9E3779B97F4A7C15ull ^
             static_cast<std::size_t>(t.index) * 0xC2B2AE3D27D4EB4Full ^
             reinterpret_cast<std::uintptr_t>(t.gate);
    }
  };
  struct Frame {
    Task task;
    int stage = 0;
    std::vector<Task> sources;
    std::vector<UOp> extra;  // ranges of a reduction, the condition of a pad, ...
  };
  struct Binding {
    std::int64_t loop, offset;
    std::vector<std::size_t> axes{};  // of the members, one for each of ranges_
  };

  int tuple(std::vector<UOp> index);
  const UOp& value(const Task& t) const { return done_.at(t); }
  // Adds the sources that the frame needs next; true when there are none and the frame can finish.
  bool expand(Frame& f);
  UOp finish(Frame& f);
  void expand_movement(Frame& f);
  bool unrolls(const Node* reduce) const;
  void expand_reduce(Frame& f);
  void expand_matmul(Frame& f);
  void expand_cat(Frame& f);
  UOp elementwise(Node* n, std::span<const UOp> src);
  void share_mirrored(const Node* n, std::vector<UOp>& src);
  UOp load(Node* param, int index, Node* gate);
  UOp state(Node* symbol, int index);
  // Minus `core`, or `core` itself, but for the signs of zeros.
  struct Signed {
    bool minus;
    UOp core;
  };
  Signed without_sign(const UOp& value, int depth = 0);
  UOp accumulate(Reduction kind, DType d, const UOp& value, std::span<const UOp> ranges);
  UOp combine(Reduction kind, DType d, std::vector<UOp> values);
  UOp loop(Node* scan);
  UOp flat_index(std::span<const UOp> index, std::span<const std::int64_t> shape);
  int level(Node* n);
  std::int64_t fresh_range_id(const Task& t);
  Task child(const Frame& f, std::size_t i) const { return {f.task.node->src(i), f.task.index, f.task.gate}; }
  Task child(const Frame& f, std::size_t i, std::vector<UOp> index, const UOp& gate = {});

  IndexMath& math_;
  bool unroll_;
  std::vector<std::vector<UOp>> tuples_;
  std::map<std::vector<Node*>, int> tuple_ids_;
  std::unordered_map<Task, UOp, TaskHash> done_;
  std::vector<UOp> kept_;
  NodeMap<int> levels_;
  NodeMap<Binding> bindings_;
  NodeMap<UOp> loops_;
  std::int64_t next_loop_ = 0;
  std::vector<UOp> ranges_;  // over the members of the scan
  std::set<const Node*> apart_;
  std::map<Node*, std::vector<const Node*>> collapsed_;
};

// The value that leaves a reduction over nothing.
UOp reduction_identity(Reduction kind, DType d);
// The elementwise op of a reduction.
Op reduction_op(Reduction kind);

}  // namespace tinyphys
