// Every integrator is a row of one table: a composition of substeps, and its properties. Lowering to a loop, the
// formulas of the modes, the checks and explain() walk the row; none of them knows an integrator by name.
//
// To add one: a name in tinyphys/integrator.hpp, a row in integrators.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tinyphys/integrator.hpp"

namespace tinyphys {

enum class Part : unsigned char {
  kKick,   // p -= c h dH/dq
  kDrift,  // q += c h dH/dp
  kSolve,  // z' = z + c h J grad H((z + z') / 2)
  kFlow    // the exact flow over c h; nothing a loop could take
};

struct Substep {
  Part part;
  double coefficient;  // of h
};

struct IntegratorRow {
  std::string_view name;
  int order;  // of the global error; 0: no error
  std::vector<Substep> substeps;
  // The tangent of a step of H is the step of the tangent-lifted H, and the step of a sum of independent energies is
  // the steps of each. True of every composition of the parts above. A method of which one does not hold is lowered
  // to its loop before derivatives or batches see it.
  bool commutes_with_tangent = true;
  bool commutes_with_batch = true;

  bool has(Part part) const {
    for (const Substep& s : substeps)
      if (s.part == part) return true;
    return false;
  }
  // A kick reads dH/dq at one p for all of it: that is its flow only where H = T(p) + V(q).
  bool needs_separable() const { return has(Part::kKick) || has(Part::kDrift); }
  bool has_loop() const { return !has(Part::kFlow); }
  // The same substeps forth and back: a step of -h takes the step of h back.
  bool symmetric() const;
  // A kick at the end and at the beginning: the force of one serves the other.
  bool first_same_as_last() const {
    return substeps.size() > 1 && substeps.front().part == Part::kKick && substeps.back().part == Part::kKick;
  }
};

// Throws std::out_of_range for a number that is no integrator; is_integrator tells.
const IntegratorRow& row_of(Integrator integrator);
bool is_integrator(Integrator integrator);
inline std::string_view name(Integrator integrator) { return row_of(integrator).name; }
// "LeapfrogKDK, ... and BlanesMoan4": those that a condition holds for.
std::string integrator_names(bool (*wanted)(const IntegratorRow&), std::string_view last_word = "and");

constexpr std::string_view name(Method method) {
  switch (method) {
    case Method::Default: return "Default";
    case Method::Loop: return "Loop";
    case Method::Auto: return "Auto";
    case Method::TimeWarp: return "TimeWarp";
    case Method::Split: return "Split";
    case Method::Spectral: return "Spectral";
  }
  return "?";
}

// A further row, for tests of what the table promises. Not for several threads at once.
Integrator add_integrator(IntegratorRow row);

}  // namespace tinyphys
