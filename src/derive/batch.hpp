// Whether the members of an ensemble move by themselves: a walk that follows their axes through the graph.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "uop/uop.hpp"

namespace tinyphys {

struct BatchProof {
  const Node* culprit =
      nullptr;         // the first node that may join members, or loses track of them; null: proved
  std::string reason;  // "roll along axis 0, that of the members"
};

// Outputs of a body (LAMBDA), each of the shape of the members: the first n_batch axes of its state, n_state PARAMs. Proved:
// element b of each depends on no state but that of member b. What does not depend on the state may differ from member to
// member as it likes. An upper bound of what is joined: q * 0 joins as q does.
BatchProof prove_independent(const Node* body, std::size_t n_batch, std::size_t first = 0,
                             std::size_t n_state = 2);

}  // namespace tinyphys
