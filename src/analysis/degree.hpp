// Polynomial degree of a graph in its state, as an abstract interpretation: an upper bound. PHYSICS section 1.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "uop/graph.hpp"

namespace tinyphys {

inline constexpr int kInfiniteDegree = 1 << 20;

struct Degree {
  int q = 0;      // in the first group of state variables
  int p = 0;      // in the second
  int joint = 0;  // in both together

  bool finite() const { return joint < kInfiniteDegree; }
  friend bool operator==(const Degree&, const Degree&) = default;
};

// Which PARAMs of a body are state, and in which group.
enum class StateGroup : std::int8_t { kNone, kQ, kP };

// Degrees of all nodes of a list in which sources come before users.
NodeMap<Degree> node_degrees(std::span<Node* const> order, std::span<const StateGroup> params);

struct DegreeBound {
  std::vector<Degree> outputs;  // one per output of the body
  Degree worst;
  // The lowest node that goes beyond degree 2 (or has no finite degree) and why: "q * q * q has degree 3 in q at
  // main.cpp:41".
  const Node* culprit = nullptr;
  std::string reason;
};

// `limit`: the degree a caller can use (2 for an energy, 1 for a step); names are for messages.
DegreeBound bound_degree(const Node* body, std::span<const StateGroup> params, int limit,
                         std::span<const std::string> names = {});

// Does a node of the body depend on the state at all.
NodeMap<char> state_dependence(const Node* body, std::span<const StateGroup> params);

// Elements evaluated in one pass over the body: the cost of an identity test before it is run.
double evaluation_work(const Node* body);

// "q * p at main.cpp:12".
std::string located_infix(const Node* n, std::span<const std::string> names);

}  // namespace tinyphys
