// The one interface through which the front end reaches the engine, which is a later stage.
#pragma once

#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

struct Explanation {
  std::string text, json;
};

// A quantity that is proven to be an invariant of the motion of an H.
struct ProvenInvariant {
  enum class Kind { kEnergy, kMomentum, kAngularMomentum };
  Kind what = Kind::kEnergy;
  int axis = 0;                  // Momentum: along it; AngularMomentum: about it, in two dimensions 2
  std::string how;               // "H is invariant under translation along x: ..."
  double error_probability = 0;  // that it is not; 0 where structure decides
};

// What is known of psi -> H psi without its values.
struct OperatorProof {
  enum class Answer {
    kProven,
    kOpen,    // not shown here: its values may show it
    kRefuted  // it is not so, or not in a form that is looked at
  };
  Answer linear = Answer::kOpen, hermitian = Answer::kOpen;
  std::string linear_how, hermitian_how;  // how it is proven; else why not
};

class EngineHook {
 public:
  virtual ~EngineHook() = default;
  // Afterwards storage(v.get()) is set for each value, scalars and empty tensors too.
  virtual void realize(std::span<const UOp> values) = 0;
  // Throws tp::Error when the integrator of an EVOLVE is not defined for its H. What an identity test decided that
  // rests on the values of numbers in H (EvolveRecord::verdict); 0 where none did.
  virtual std::int64_t check_evolve(const UOp& evolve, const std::source_location& where) = 0;
  // Of the flow of an EVOLVE's H.
  virtual std::vector<ProvenInvariant> proven_invariants(const UOp& evolve) = 0;
  // The H of an EVOLVE, which is separable, as a LAMBDA of the same params with the outputs T(p) and V(q). Null where its terms
  // are not apart as they are written.
  virtual UOp split_energy(const UOp& evolve) = 0;
  // What the values that an EVOLVE of several steps is given say of it, as far as they are known now: its resonances.
  virtual Records found_of(const UOp&) { return {}; }
  // An EVOLVE of Method::Split with H cut into its terms, those that are taken by their flow told in the record. Throws
  // tp::Error where H has no such cut.
  virtual UOp split_evolve(const UOp& evolve, const std::source_location&) { return evolve; }
  // Of a symbol psi and H psi, both complex128 of one shape.
  virtual OperatorProof prove_operator(const UOp&, const UOp&) { return {}; }
  // Throws tp::Error for a device that this machine does not have.
  virtual void find_device(std::string_view) {}
  virtual Explanation explain(const UOp& value) = 0;
};

// Throws tp::Error when no engine is linked into the program.
EngineHook& engine();
bool has_engine();
// The engine lives on; a later registration takes the place of an earlier one.
void register_engine(EngineHook* hook);

}  // namespace tinyphys
