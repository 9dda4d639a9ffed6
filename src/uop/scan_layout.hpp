// Where things stand in the sources of the primitives that carry a body.
//
// A body is a LAMBDA: closed, its free values are PARAM nodes numbered from 0 (kind 0, tensor).
//
//   SCAN    src  [body, steps, carry..., xs..., captured...]         arg [n_carry, n_xs]
//           body params [index, carry..., one slice of each xs..., captured...]; outputs [carry'..., out...]
//           GET i < n_carry is the last carry; GET n_carry + j stacks out j along a new leading axis [steps, ...].
//           index is the int64 step number; steps is an int64 scalar CONST (or a scalar slot).
//   SCAN_VJP src [body, steps, carry..., xs..., captured..., ct of each GET...]   arg [n_carry, n_xs]
//           GET i is the cotangent of source 2 + i (carry..., xs..., captured...), zeros for integers.
//   EVOLVE  src  [H, dt, steps, q, p, captured...]                   arg [integrator, method]
//           H params [q, p, captured...]; output: scalar energy.  GET 0 = q, GET 1 = p.
//   EVOLVE_VJP src [H, dt, steps, q, p, captured..., ct of q, ct of p]   arg [integrator, method]
//           GET i is the cotangent of source 1 + i (dt, steps, q, p, captured...), zeros for integers.
//   PROPAGATE src [loop, forces, steps, dt, q, p, captured...]       arg [integrator, separable]
//           loop: LAMBDA params [steps, dt, q, p, captured...] -> [q, p]; without outputs where there is no loop.
//           forces: LAMBDA params [q, p, captured...] -> [dH/dq, dH/dp], affine in (q, p).
//           GET 0 = q, GET 1 = p. The same map as the loop's; the plan holds both behind a Guard.
#pragma once

#include <cstdint>
#include <span>

#include "uop/uop.hpp"

namespace tinyphys {

// What System::evolve may be asked for; the public enums of system.hpp have the same numbers.
enum class IntegratorKind : std::int64_t { kLeapfrogKDK, kLeapfrogDKD, kExact, kImplicitMidpoint };
enum class MethodKind : std::int64_t { kDefault, kLoop };

constexpr std::string_view name(IntegratorKind k) {
  switch (k) {
    case IntegratorKind::kLeapfrogKDK: return "LeapfrogKDK";
    case IntegratorKind::kLeapfrogDKD: return "LeapfrogDKD";
    case IntegratorKind::kExact: return "Exact";
    case IntegratorKind::kImplicitMidpoint: return "ImplicitMidpoint";
  }
  return "?";
}

// A view of the sources of SCAN (and of the leading sources of SCAN_VJP).
struct ScanView {
  explicit ScanView(const Node* n)
      : node(n),
        n_carry(static_cast<std::size_t>(n->arg(0))),
        n_xs(static_cast<std::size_t>(n->arg(1))),
        n_out(n->src(0)->n_src - n_carry),
        n_captured(n->src(0)->arg(0) - 1 - n->arg(0) - n->arg(1)) {}
  const Node* node;
  std::size_t n_carry, n_xs, n_out;
  std::int64_t n_captured;

  Node* body() const { return node->src(0); }
  Node* steps() const { return node->src(1); }
  std::span<Node* const> carry() const { return node->src().subspan(2, n_carry); }
  std::span<Node* const> xs() const { return node->src().subspan(2 + n_carry, n_xs); }
  std::span<Node* const> captured() const {
    return node->src().subspan(2 + n_carry + n_xs, static_cast<std::size_t>(n_captured));
  }
  std::span<Node* const> cotangents() const {  // SCAN_VJP
    return node->src().subspan(2 + n_carry + n_xs + static_cast<std::size_t>(n_captured));
  }
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
  IntegratorKind integrator() const { return static_cast<IntegratorKind>(node->arg(0)); }
  MethodKind method() const { return static_cast<MethodKind>(node->arg(1)); }
};

struct EvolveVjpView : EvolveView {
  using EvolveView::EvolveView;
  std::span<Node* const> captured() const { return node->src().subspan(5, node->n_src - 7); }
  std::span<Node* const> cotangents() const { return node->src().subspan(node->n_src - 2); }
};

struct PropagateView {
  explicit PropagateView(const Node* n) : node(n) {}
  const Node* node;
  Node* loop() const { return node->src(0); }
  Node* forces() const { return node->src(1); }
  Node* steps() const { return node->src(2); }
  Node* dt() const { return node->src(3); }
  Node* q() const { return node->src(4); }
  Node* p() const { return node->src(5); }
  std::span<Node* const> captured() const { return node->src().subspan(6); }
  IntegratorKind integrator() const { return static_cast<IntegratorKind>(node->arg(0)); }
  bool separable() const { return node->arg(1) != 0; }
};

}  // namespace tinyphys
