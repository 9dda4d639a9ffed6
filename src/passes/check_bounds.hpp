// GATHER and SCATTER_ADD by an index that is known only at run time -> the same behind a CHECK of its range.
#pragma once

#include "uop/uop.hpp"

namespace tinyphys {

// A kernel clamps an index, so that it never reads beyond a buffer; the CHECK makes a wrong index an error instead
// of a wrong answer. An index within a loop is checked outside of it: before the loop, where it depends on nothing that
// changes or on the number of the step alone; else the loop carries the last index that it has seen, or the first wrong
// one.
UOp pass_check_bounds(const UOp& program);

}  // namespace tinyphys
