// Where things stand in the sources of the primitives that carry a body.
//
// A body is a LAMBDA: closed, its free values are PARAM nodes numbered from 0 (kind 0, tensor).
//
//   SCAN    src  [body, steps, carry..., xs..., captured...]         arg [n_carry, n_xs] then until (0, 1), the method,
//           Reversible, and the range of each carry in fixed point, as far as they are not 0
//           body params [index, carry..., one slice of each xs..., captured...]; outputs [carry'..., out...], and last a
//           bool scalar `until` where args say so: the step after which it is true is the last one.
//           GET i < n_carry is the last carry; GET n_carry + j stacks out j along a new leading axis [steps, ...] (0 in
//           the rows of steps that `until` left out). index is the int64 step number; steps is an int64 scalar CONST (or
//           a scalar slot). Made by make_scan (build.hpp).
//   SCAN_VJP src [body, steps, carry..., xs..., captured..., ct of each GET...]   arg [n_carry, n_xs]
//           GET i is the cotangent of source 2 + i (carry..., xs..., captured...), zeros for integers.
//   EVOLVE  src  [H, dt, steps, q, p, captured...]                   arg EvolveRecord
//           H params [q, p, captured...]; outputs: the scalar energy of each term; H is their sum.  GET 0 = q, GET 1 = p.
//           Where the record says `timed`, captured 0 is the time at the start, and H takes the time of the moment there.
//   EVOLVE_VJP src [H, dt, steps, q, p, captured..., ct of q, ct of p]   arg EvolveRecord
//           GET i is the cotangent of source 1 + i (dt, steps, q, p, captured...), zeros for integers.
//   PROPAGATE src [loop, map, steps, state..., captured...]          arg [PropagateKind, n_state, ...]
//           loop: LAMBDA params [steps, state..., captured...] -> state...; without outputs where there is no loop.
//           map: LAMBDA params [state..., captured...], affine in the state. What it gives is the kind's:
//             kHamiltonian  [dH/dq, dH/dp]; state q, p; captured 0 is dt; arg [kind, 2, integrator, separable]
//             kAffine       the state after one step; arg [kind, n_state]
//           GET i = state i. The same map as the loop's; the plan holds both behind a Guard.
//   PROPAGATE_VJP src [loop, map, finish, forward, steps, state..., captured..., ct of each of the state]
//                                                                    arg of the PROPAGATE, and rows
//           GET i = output i of loop and of finish: cotangents of what is captured, of a PROPAGATE with this map.
//           loop: LAMBDA params [steps, state..., captured..., ct...], over a tape.
//           finish: LAMBDA of those params and of the sums of the gradient: [rows, shape of part i] for each part of the
//           state, what goes with the derivative of output i of the map by a coordinate, and [shape of part i] for each, what
//           goes with that output at the state given. No member of `rows` coordinates is coupled with another; row r goes
//           with coordinate r of each, those of part 0 first. Of a separable H (linalg/mode_moments.hpp) with that of q or
//           of p alone; else linalg/affine_sums.hpp.
//           forward: the loop of that PROPAGATE.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "support/integrators.hpp"
#include "tinyphys/reversible.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// A view of the sources of SCAN (and of the leading sources of SCAN_VJP).
struct ScanView {
  explicit ScanView(const Node* n)
      : node(n),
        n_carry(static_cast<std::size_t>(n->arg(0))),
        n_xs(static_cast<std::size_t>(n->arg(1))),
        has_until(n->n_arg > 2 && n->arg(2) != 0),
        method(n->n_arg > 3 ? static_cast<Method>(n->arg(3)) : Method::Default),
        reversible(n->n_arg > 4 ? static_cast<Reversible>(n->arg(4)) : Reversible::Auto),
        n_out(n->src(0)->n_src - n_carry - has_until),
        n_captured(n->src(0)->arg(0) - 1 - n->arg(0) - n->arg(1)) {}
  const Node* node;
  std::size_t n_carry, n_xs;
  bool has_until;
  Method method;
  Reversible reversible;
  std::size_t n_out;
  std::int64_t n_captured;

  Node* body() const { return node->src(0); }
  Node* steps() const { return node->src(1); }
  std::span<Node* const> carry() const { return node->src().subspan(2, n_carry); }
  std::span<Node* const> xs() const { return node->src().subspan(2 + n_carry, n_xs); }
  std::span<Node* const> captured() const {
    return node->src().subspan(2 + n_carry + n_xs, static_cast<std::size_t>(n_captured));
  }
  std::vector<double> range() const {  // Reversible::Exact
    std::vector<double> out;
    for (std::size_t i = 5; i < node->n_arg; ++i) out.push_back(from_bits(node->arg(i)));
    return out;
  }
  std::span<Node* const> cotangents() const {  // SCAN_VJP
    return node->src().subspan(2 + n_carry + n_xs + static_cast<std::size_t>(n_captured));
  }
};

// What an EVOLVE was asked for, as its args: trailing defaults are left out, so that equal requests are equal nodes.
struct EvolveRecord {
  Integrator integrator = Integrator::LeapfrogKDK;
  Method method = Method::Default;
  bool timed = false;  // H depends on the time
  // What an identity test that rests on the values of numbers in H has decided; 0 where structure alone decides.
  // A plan for one verdict serves all numbers that share it.
  std::int64_t verdict = 0;
  double tolerance = 0;  // for certified rewrites; 0: none are allowed
  std::int64_t save_every = 0;
  Reversible reversible = Reversible::Auto;
  std::vector<std::int64_t>
      levels;  // steps of each term of H within dt, 0 for one without q; empty: one for all
  std::vector<std::int64_t> conserve;  // invariants to project on
  std::int64_t batch_axes = 0;  // the first axes of the state are of members that H was proven not to join
  bool dt_in_energy = false;    // dt is 1, and what the user gave is a factor of H
  double range_q = 0, range_p = 0;  // of Reversible::Exact
  bool linear_part =
      false;  // the motion under the part of H that is of degree 2: constant forces are left out
  // Method::Split: 1 for a term of H that is taken by its exact flow, 0 for one that kicks; and the kick.
  std::vector<std::int64_t> flows;
  Impulse impulse = Impulse::Auto;

  // Of verdict: that there is one; H is quadratic, separable; and is so for these values of its numbers alone.
  static constexpr std::int64_t kDecided = 1, kQuadratic = 2, kSeparable = 4, kQuadraticNow = 8,
                                kSeparableNow = 16;

  // The steps of each level, the slowest first; empty where there are no levels.
  std::vector<std::int64_t> level_steps() const;

  Dims encode() const;
  static EvolveRecord decode(std::span<const std::int64_t> arg);
  std::string tolerance_text() const;  // " tol 1e-4"; empty where there is none
  friend bool operator==(const EvolveRecord&, const EvolveRecord&) = default;
};

struct EvolveView {
  explicit EvolveView(const Node* n) : node(n) {}
  const Node* node;
  Node* energy() const { return node->src(0); }
  Node* dt() const { return node->src(1); }
  Node* steps() const { return node->src(2); }
  Node* q() const { return node->src(3); }
  Node* p() const { return node->src(4); }
  std::span<Node* const> captured() const { return node->src().subspan(5); }
  EvolveRecord record() const { return EvolveRecord::decode(node->arg()); }
  const IntegratorRow& row() const { return row_of(static_cast<Integrator>(node->arg(0))); }
  // As of the row; the mollified kicks of a split are made of the flow, whose tangent is of another system.
  bool commutes_with_tangent() const { return row().commutes_with_tangent && record().flows.empty(); }
  bool commutes_with_batch() const { return row().commutes_with_batch && record().flows.empty(); }
};

struct EvolveVjpView : EvolveView {
  using EvolveView::EvolveView;
  std::span<Node* const> captured() const { return node->src().subspan(5, node->n_src - 7); }
  std::span<Node* const> cotangents() const { return node->src().subspan(node->n_src - 2); }
};

enum class PropagateKind : std::int64_t { kHamiltonian, kAffine };

// A PROPAGATE, or the one that a PROPAGATE_VJP goes back through.
struct PropagateView {
  explicit PropagateView(const Node* n)
      : node(n),
        n_state(static_cast<std::size_t>(n->arg(1))),
        first(n->op == Op::PROPAGATE_VJP ? 4 : 2),
        n_cotangents(n->op == Op::PROPAGATE_VJP ? n_state : 0) {}
  const Node* node;
  std::size_t n_state, first, n_cotangents;  // first: source number of the steps
  PropagateKind kind() const { return static_cast<PropagateKind>(node->arg(0)); }
  Node* loop() const { return node->src(0); }
  Node* map() const { return node->src(1); }
  bool has_loop() const { return loop()->n_src > 0; }
  Node* steps() const { return node->src(first); }
  std::span<Node* const> state() const { return node->src().subspan(first + 1, n_state); }
  std::span<Node* const> captured() const {
    const std::size_t at = first + 1 + n_state;
    return node->src().subspan(at, node->n_src - n_cotangents - at);
  }
  // What says which system it is.
  std::span<const std::int64_t> system() const {
    return node->arg().first(node->n_arg - (node->op == Op::PROPAGATE_VJP ? 1u : 0u));
  }
  // kHamiltonian
  Integrator integrator() const { return static_cast<Integrator>(node->arg(2)); }
  bool separable() const { return node->arg(3) != 0; }
  // PROPAGATE_VJP
  Node* finish() const { return node->src(2); }
  Node* forward() const { return node->src(3); }
  std::int64_t rows() const { return node->arg().back(); }
  std::span<Node* const> cotangents() const { return node->src().last(n_cotangents); }
};

}  // namespace tinyphys
