// EVOLVE of a quadratic H -> PROPAGATE: N steps become one propagator (PHYSICS section 2).
//
// This pass decides on structure only. What depends on values (definiteness, cost, stability) is a Guard at run time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "analysis/identity.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// What is proved of an EVOLVE's energy; the same for all EVOLVEs of one H (and, where the proof rests on the values
// of numbers, of the same numbers).
struct EnergyProof {
  DegreeBound bound;
  IdentityTest identity;
  Separability separable;
  bool quadratic = false;
  bool values_decide = false;  // other captured constants may lead to another verdict
  bool needs_values = false;   // and these lead to a jump
  // The energy's largest state-independent subgraphs that round, over its PARAMs: to recognition and to the jump they
  // are numbers, those that the runtime makes of them.
  std::vector<UOp> taken_out;
  UOp energy;           // as simplified for recognition, over [q, p, captured..., taken out...]
  std::string refused;  // why it is not quadratic
};
std::shared_ptr<const EnergyProof> prove_energy(const Node* evolve);

// The numbers behind the PARAMs of an EVOLVE's energy, those of what was taken out of it after its own.
Constants numbers_of(const Node* evolve, std::span<const UOp> taken_out);

// What was decided from the values of captured constants, as EvolveRecord::verdict; 0 where structure alone decides.
std::int64_t value_verdict(const Node* evolve);

// The PROPAGATE in place of an EVOLVE, or nothing when it stays a loop.
UOp lift_evolve(const Node* evolve);

// The cotangents of the inputs of an EVOLVE_VJP (those wanted, the others null) without a tape, or nothing where H is not
// quadratic, the method not symmetric, or more is wanted than can be had so.
// The state: a step M of a quadratic H is symplectic, so that M^T = J M^{-1} J^{-1} with J = [[0, 1], [-1, 0]], and M^{-1}
// is the step of -dt: a PROPAGATE backward. dt and what H is made of (masses, couplings, fields): of a separable H the sums
// of linalg/mode_moments.hpp, a PROPAGATE_VJP; else, a few numbers, forward: an EVOLVE of the state and its tangent.
std::vector<UOp> lift_gradient(const Node* evolve_vjp, const std::vector<bool>& wanted);

// Throws when the integrator asked for is not defined for this H: leapfrog with q-p cross terms, Exact beyond degree
// 2. `file` and `line` are the user's call.
void check_integrator(const Node* evolve, const char* file, unsigned line);

}  // namespace tinyphys
