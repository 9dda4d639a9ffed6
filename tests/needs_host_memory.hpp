// For tests that count bytes: a device with a memory of its own keeps copies of what the host gives it.
#pragma once

#include <doctest/doctest.h>

#include "support/env.hpp"

namespace tinyphys::testing {

inline doctest::skip needs_host_memory() {
  return doctest::skip(env::device() != "cpu" && env::device() != "interp");
}

}  // namespace tinyphys::testing
