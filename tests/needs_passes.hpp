// For tests of what the passes find and fuse: TINYPHYS_OPT=0 turns that off.
#pragma once

#include <doctest/doctest.h>

#include "support/env.hpp"

namespace tinyphys::testing {

inline doctest::skip needs_passes() { return doctest::skip(!env::optimize()); }

}  // namespace tinyphys::testing
