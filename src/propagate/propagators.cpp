#include "propagate/propagator.hpp"

namespace tinyphys {
namespace {

std::vector<PropagatorRow>& rows() {
  static auto* r = new std::vector<PropagatorRow>{
      {"Fourier-mode jump", false, make_lattice},
      {"sine- and cosine-mode jump", true, make_uniform},
      {"normal-mode jump", true, make_normal_modes, [](const JumpSystem& s) { return s.separable; }},
      {"powered step matrix", true, make_powering, [](const JumpSystem& s) { return !s.separable; }},
  };
  return *r;
}

}  // namespace

std::vector<PropagatorRow> propagators() { return rows(); }
void add_propagator(const PropagatorRow& row) { rows().push_back(row); }

}  // namespace tinyphys
