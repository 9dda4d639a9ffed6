// Is psi -> H psi linear over the complex numbers, and Hermitian?
//
// Structure decides first: H as a sum of words, products of diagonals, transforms and cyclic shifts. Such a sum is linear, and it
// is Hermitian when the adjoint of each word, its factors' adjoints in reverse order, is a word of the sum. Elsewhere the degree
// in the parts of psi must be 1, and H 0 = 0, H (i psi) = i H psi and <f|H g> = <H f|g> are tested as identities in F_p.
#pragma once

#include "tensor/engine_hook.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// psi: a SYM, value = H psi; both complex128 of one shape.
OperatorProof prove_operator(const UOp& psi, const UOp& value);

}  // namespace tinyphys
