// Which changes of the state leave an energy as it is: translations, rotations, q to -q. What follows from them is conserved by
// the motion (Noether): momenta, angular momenta.
//
// A polynomial H is tested by identity in F_p (identity.hpp). Elsewhere structure decides, as far as it is needed: a node that is
// no polynomial of the state (sqrt, exp, a division by the state, a comparison) keeps its value where its arguments keep theirs,
// and is then an unknown of what is above it. So H and the arguments of all such nodes are tested together: a sum of
// 1 / sqrt(|x_i - x_j|^2 + eps^2) asks for the invariance of |x_i - x_j|^2 + eps^2, and of a sum of unknowns. That is enough and
// not necessary: what is refused may have the symmetry all the same.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "analysis/identity.hpp"

namespace tinyphys {

struct Symmetry {
  StateChange change;
  bool holds = false;
  double error_probability = 0;
  bool needed_values = false;        // of the numbers in H
  std::vector<std::string> through;  // the kinds of nodes that are no polynomials: "sqrt"
  std::string reason;                // where it does not hold: "q * q at main.cpp:12 changes"
};

// Of bodies in space: q and p of shape [members..., bodies, D] with D <= 3, or [members..., bodies] in one dimension. In this
// order: translations along each axis, rotations in each plane (0, 1), (1, 2), (2, 0), the mirror. Empty for other shapes.
// `body`: the terms of the energy; its first two params are q and p.
std::vector<Symmetry> find_symmetries(const Node* body, const Constants& constants,
                                      std::span<const std::int64_t> shape, std::size_t n_batch,
                                      std::span<const std::string> names);

}  // namespace tinyphys
