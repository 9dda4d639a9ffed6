// The values of a graph by each evaluator, and how far they may be apart.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "uop/evaluate.hpp"
#include "uop/uop.hpp"

namespace tinyphys::fuzz {

// The floats of a complex value are pairs along an axis more.
using Values = std::vector<Value<double>>;

// A graph as one of real numbers over its data, with no pass before it.
class RealGraph {
 public:
  explicit RealGraph(const std::vector<UOp>& roots);
  std::span<Node* const> outputs() const { return program_->src(); }
  std::optional<Value<double>> leaf(const Node* n) const;

 private:
  UOp program_;
  Values data_;
};

// By the evaluator, node by node, with no pass before it.
Values reference(const std::vector<UOp>& roots);

// As a program would get them.
struct Evaluator {
  std::string device;
  bool optimize = true;
  std::string text() const { return device + (optimize ? "" : " with TINYPHYS_OPT=0"); }
};
// `planted`: that evaluator takes its negation for each node of this op (NOT of bools).
Values realized(const std::vector<UOp>& roots, const Evaluator& by, Op planted = Op::SINK);

// The roots over data of their own: nothing that was computed for others is known of these.
std::vector<UOp> fresh(const std::vector<UOp>& roots);
// A leaf with this value, of this dtype.
UOp leaf_of(const Value<double>& value, DType dtype);
bool same_element(const Value<double>& a, const Value<double>& b, std::size_t i);
std::string element_text(const Value<double>& v, std::size_t i);

// What an evaluator may make of a graph: the reference, and what comes out when every operation that devices may round by
// themselves is off by as many ulp as it may be, in one direction or the other, and each rounding that depends on one by an
// ulp. An element that stays the same in all bits must be that.
class Allowed {
 public:
  Allowed(const std::vector<UOp>& roots, bool opencl);

  const Values& reference() const { return reference_; }
  // True where `got` is within 4 times the largest deviation of all samples; takes more samples before it says no.
  bool contains(const Values& got);
  // Of an element: that deviation; infinite where the samples do not agree on what it is at all.
  double deviation(std::size_t root, std::size_t i) const { return deviation_[root][i]; }
  bool contains(const Value<double>& got, std::size_t root, std::size_t i) const;

 private:
  void sample(int how_many);

  RealGraph graph_;
  bool opencl_;
  Values reference_;
  std::vector<std::vector<double>> deviation_;
  std::mt19937_64 rng_{1};
  int samples_ = 0;
};

}  // namespace tinyphys::fuzz
