// The whole public API.
#pragma once

#include "tinyphys/conserve.hpp"
#include "tinyphys/count.hpp"
#include "tinyphys/dtype.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/explain.hpp"
#include "tinyphys/fft.hpp"
#include "tinyphys/fmt.hpp"
#include "tinyphys/jit.hpp"
#include "tinyphys/reversible.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/schroedinger.hpp"
#include "tinyphys/structure.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"
#include "tinyphys/tolerance.hpp"
#include "tinyphys/transforms.hpp"
