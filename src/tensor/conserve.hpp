// EvolveOptions::conserve as graphs: what of it is a graph of q and p, and what is an error.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tensor/engine_hook.hpp"
#include "tinyphys/conserve.hpp"
#include "uop/uop.hpp"

namespace tinyphys::front {

// One number for each member that is to be kept.
struct KeptValue {
  std::string name;  // "energy", "momentum x"
  UOp value;         // over q and p
};

// What there is to make them of. `q`, `p`: symbols. `energies`: of the terms of H, for each member; none for a force.
struct KeptBy {
  UOp q, p;
  std::span<const UOp> energies;
  bool timed = false;
  std::span<const std::int64_t> members;                 // the shape of the ensemble
  std::function<std::vector<ProvenInvariant>()> proven;  // of H
};

// Throws for what is not defined of them, with the line of the invariant. `told`: how those of Conserved::Auto are proven.
std::vector<KeptValue> kept_values(const Conserve& conserve, const KeptBy& by, Records& told,
                                   const Where& where);

// M, checked; null where the user gives none.
UOp checked_metric(const Conserve& conserve, const UOp& q, const Where& where);

// "energy, momentum x and momentum y"
std::string listed(std::span<const KeptValue> values);

}  // namespace tinyphys::front
