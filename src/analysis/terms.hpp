// The additive terms of an energy, as it was written: through sums, reductions of sums, negation, common factors and
// linear movement. Products are not multiplied out: (a + b) * (c + d) is one term, k * (a + b) with a k that does not
// depend on the state is two.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "analysis/degree.hpp"

namespace tinyphys {

struct Term {
  std::string name;   // of the output that it belongs to; empty where that has none
  Node* node;         // what is summed, without the common factors around it
  UOp value;          // the whole term, a scalar over the body's PARAMs; the values add up to the energy
  Degree degree;      // an upper bound; 0 for what does not depend on the state
  std::string text;   // "0.5 * sum(p * p)"
  std::string where;  // "chain.cpp:12"; empty where unknown

  bool joins_q_and_p() const { return degree.q > 0 && degree.p > 0; }
};

// "2 in p", "2 in q and p (1 in q, 1 in p)", "not polynomial in q", "none".
std::string degree_text(const Degree& d, std::span<const std::string> names = {});

struct NamedOutput {
  std::string name;
  UOp root;  // float scalar
};

struct Terms {
  std::vector<Term> list;  // in the order in which they were written, output by output
  std::string stopped;     // why sums are left within terms; empty where there are none
};

constexpr std::size_t kMaxTerms = 1000;

// Terms of the sum of the outputs. Linear in the size of the graph, shared subgraphs included: a subgraph that is added
// twice is one term with the factor 2. An output is not split beyond `limit` terms.
// The nodes of the result live as long as the outputs do.
Terms find_terms(std::span<const NamedOutput> outputs, std::span<const StateGroup> params,
                 std::span<const std::string> names = {}, std::size_t limit = kMaxTerms);

}  // namespace tinyphys
