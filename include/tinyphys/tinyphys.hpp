// The whole public API.
#pragma once

#include "tinyphys/dtype.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/fmt.hpp"
#include "tinyphys/tensor.hpp"
