// Bounded laziness: a plain C++ loop over tensors records a chain of operations. When a thread has recorded so many that
// nobody has computed (TINYPHYS_PENDING), passes that repeat are folded into one SCAN and run; what the user holds of them,
// and what later operations need, gets its value, and its past is that SCAN. What does not repeat is computed as it is.
#pragma once

#include <cstddef>
#include <span>

#include "uop/uop.hpp"

namespace tinyphys {

// Of the calling thread's trace, where more than half of `limit` (0: TINYPHYS_PENDING) operations wait. How many operations may be recorded until the next look. `values`: references that the caller holds. Errors wait for whoever asks for
// the values.
std::size_t fold_pending(std::size_t limit, std::span<const UOp> values) noexcept;

}  // namespace tinyphys
