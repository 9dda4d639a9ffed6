// GATHER and SCATTER_ADD by an index that is known only at run time -> the same behind a CHECK of its range.
#pragma once

#include "uop/uop.hpp"

namespace tinyphys {

// A kernel clamps an index, so that it never reads beyond a buffer; the CHECK makes a wrong index an error instead
// of a wrong answer. Bodies of loops are not entered: a check in each step would cost a pass over the index.
UOp pass_check_bounds(const UOp& program);

}  // namespace tinyphys
