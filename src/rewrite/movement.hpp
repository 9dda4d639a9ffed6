// Right sides and predicates of the movement rules: arithmetic on the args of RESHAPE, PERMUTE, SLICE, ...
#pragma once

#include "uop/uop.hpp"

namespace tinyphys {

// The movement node changes nothing.
bool is_identity_movement(const Node* n);

// One node for a node over another of the same op; null where one node cannot do both.
UOp merge_permutes(const Node* outer, const Node* inner);
UOp merge_slices(const Node* outer, const Node* inner);
UOp merge_pads(const Node* outer, const Node* inner);
UOp merge_rolls(const Node* outer, const Node* inner);

// A permutation that keeps the order of the axes longer than 1 is a reshape.
bool permutes_only_ones(const Node* permute);

// A slice that takes nothing of the padding (of one part of the CAT only), taken from the source (the part).
UOp slice_inside_pad(const Node* slice, const Node* pad);
UOp slice_inside_cat(const Node* slice, const Node* cat);

// Movement of a uniform value, as a uniform value; null where it is one already, or where padding brings in
// another number.
UOp move_uniform(const Node* n);

// The elementwise op n below the part of the expansion that all its sources share; null where they share none.
UOp push_below_expand(const Node* n);

// REDUCE without its axes of size 1; null where it has none.
UOp drop_reduced_ones(const Node* reduce);

}  // namespace tinyphys
