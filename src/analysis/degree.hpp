// Polynomial degree of a graph in its state, as an abstract interpretation (an upper bound), and the exact test by
// polynomial identity in a prime field that decides where the bound is not tight. PHYSICS section 1.
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

// Does node i of the body depend on the state at all; index by toposort order of the body.
NodeMap<char> state_dependence(const Node* body, std::span<const StateGroup> params);

struct IdentityTest {
  bool holds = false;
  bool needed_values = false;  // the verdict rests on the values of captured constants
  int lines = 0;
  double error_probability = 0;  // that `holds` is wrong
  std::string reason;            // when it does not hold or could not be decided
};

// Is every output of the body a polynomial of degree <= `degree` in the state? Evaluated exactly in F_p,
// p = 2^61 - 1, along random lines z0 + t v. `bound` comes from bound_degree and must be finite.
// captured_constants[i] (may be null) is the CONST behind PARAM i.
IdentityTest test_degree(const Node* body, std::span<const StateGroup> params, const DegreeBound& bound,
                         int degree, std::span<const Node* const> captured_constants);

// Is the (scalar) energy additively separable, H(q, p) = T(p) + V(q)? Decided by structure where products of q and p
// are absent, else by the identity H(q,p) - H(q,0) - H(0,p) + H(0,0) = 0 in F_p.
struct Separability {
  bool separable = false;
  bool needed_values = false;
  const Node* culprit = nullptr;  // the node that joins q and p
  std::string reason;             // "q * p at main.cpp:12"
};
Separability test_separable(const Node* body, std::span<const StateGroup> params,
                            std::span<const Node* const> captured_constants,
                            std::span<const std::string> names = {});

// Elements evaluated in one pass over the body: the cost of an identity test before it is run.
double evaluation_work(const Node* body);

}  // namespace tinyphys
