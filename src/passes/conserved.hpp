// What the motion of an H conserves, by the symmetries that are proven of H (analysis/symmetry.hpp).
#pragma once

#include <memory>
#include <vector>

#include "support/records.hpp"
#include "tensor/engine_hook.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct ConservationProof {
  std::vector<ProvenInvariant> invariants;  // energy first, where H does not depend on the time
  bool even = false;                        // H(-q, p) = H(q, p)
  std::vector<std::string> refused;         // "translation along x: ..."
};
// The same for all EVOLVEs of one H, of the same numbers and shape of the state. For an ensemble: of every member.
std::shared_ptr<const ConservationProof> prove_conserved(const Node* evolve);

// The H of an EVOLVE as a LAMBDA with the outputs T(p) and V(q), by its terms; null where a term has both q and p.
UOp split_by_terms(const Node* evolve);

// What explain() says of it, where it is more than the energy.
void report_conserved(const ConservationProof& proof, Records& to);

}  // namespace tinyphys
