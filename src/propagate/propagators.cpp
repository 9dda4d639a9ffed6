#include <numeric>

#include "propagate/propagator.hpp"

namespace tinyphys {
namespace {

std::vector<PropagatorRow>& rows() {
  static auto* r = new std::vector<PropagatorRow>{
      {"normal-mode jump", make_normal_modes},
      {"powered step matrix", make_powering},
  };
  return *r;
}

}  // namespace

std::int64_t JumpSystem::size() const { return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}); }

std::vector<PropagatorRow> propagators() { return rows(); }
void add_propagator(const PropagatorRow& row) { rows().push_back(row); }

}  // namespace tinyphys
