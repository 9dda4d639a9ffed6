// What holds for a body exactly: polynomial identity tests in prime fields drawn at random. They decide where the
// degree bound is not tight. PHYSICS section 1.
#pragma once

#include "analysis/degree.hpp"
#include "analysis/independent.hpp"

namespace tinyphys {

struct IdentityTest {
  bool holds = false;
  bool values_decide =
      false;  // it does not hold for all numbers behind PARAMs: the given ones were looked at
  bool needed_values = false;  // and for these it holds
  int primes = 0;  // random primes, one random line in the field of each; 0: the bound alone decides
  double error_probability = 0;  // that `holds` is wrong
  std::string reason;            // when it does not hold or could not be decided
};

// Is every output of the body a polynomial of degree <= `degree` in the state? Evaluated exactly in F_p along a random
// line z0 + t v, for two random primes p; a non-zero coefficient above `degree` in one of them refuses.
// `bound` comes from bound_degree and must be finite. constants[i]: the value of PARAM i, where it is a number.
// State-independent subgraphs count as their folded values where they are known, as random elements elsewhere; a
// caller that simplifies the body for recognition takes them out before (take_out_independent).
IdentityTest test_degree(const Node* body, std::span<const StateGroup> params, const DegreeBound& bound,
                         int degree, const Constants& constants);

// Is the (scalar) energy additively separable, H(q, p) = T(p) + V(q)? Decided by structure where products of q and p
// are absent, else by the identity H(q,p) - H(q,0) - H(0,p) + H(0,0) = 0 at a random point, for two random primes.
struct Separability {
  bool separable = false;
  bool values_decide = false, needed_values = false;  // as above
  double error_probability = 0;                       // that `separable` is wrong; 0 where structure decides
  const Node* culprit = nullptr;                      // the node that joins q and p
  std::string reason;                                 // "q * p at main.cpp:12"
};
Separability test_separable(const Node* body, std::span<const StateGroup> params, const Constants& constants,
                            std::span<const std::string> names = {});

// Which axes a map is invariant along: shifting the state cyclically by one site shifts what the body gives, f(S z) = S f(z)
// at a random point, for two random primes. State params and outputs have one shape each, all the same. Data along an
// axis is an unknown for each of its elements, and breaks the invariance; a number does not.
struct ShiftTest {
  std::vector<char> invariant;  // per axis of the shape; 0 for axes of one element
  double error_probability = 0;
  std::string reason;  // why the test could not be made
};
ShiftTest test_shifts(const Node* body, std::span<const StateGroup> params,
                      std::span<const std::int64_t> shape);

// A change of the state: coordinates stand along the last axis of q and p, and members of an ensemble along the first n_batch.
struct StateChange {
  enum class Kind {
    kShift,   // q + a, the same for all bodies of a member, along one coordinate
    kRotate,  // q and p turned by the same angle for all bodies of a member, in the plane of two coordinates
    kMirror   // -q
  };
  Kind kind = Kind::kShift;
  std::int64_t first = 0, second = 0;  // coordinates
  std::size_t n_batch = 0;
  bool in_line = false;  // bodies in one dimension: there is no axis of coordinates
};

// Does every output of the body keep its value under the change, by whatever a or angle? Tested at a random point, for a random
// change, for two random primes; the outputs must be polynomials in the state. Turns are those of the rational points of the
// circle, ((1 - t^2) / (1 + t^2), 2 t / (1 + t^2)), which stand for all. First for all numbers, then for those given.
struct InvarianceTest {
  bool holds = false;
  bool needed_values = false;    // for the given numbers, and not for all
  double error_probability = 0;  // that `holds` is wrong
  std::size_t culprit = 0;       // an output that changes
  std::string reason;            // why the test could not be made
};
InvarianceTest test_invariance(const Node* body, std::span<const StateGroup> params,
                               const Constants& constants, std::span<const std::int64_t> shape,
                               const StateChange& change);

// A body with one output A z of its one state param, both pairs (re, im) along a last axis of 2 and of one shape, of degree <= 1:
// is it A 0 = 0, A (i z) = i A z, and y . A z = z . A y, which of a complex linear A is <f|A g> = <A f|g>? At random
// points, for two random primes; first for all numbers behind PARAMs, then for those given.
struct OperatorTest {
  bool decided = false;  // else `reason`
  bool homogeneous = false, complex_linear = false, hermitian = false;
  bool needed_values = false;
  double error_probability = 0;  // of each
  std::string reason;
};
OperatorTest test_operator(const Node* body, std::span<const StateGroup> params, const Constants& constants);

}  // namespace tinyphys
