// A plan and its kernels in TINYPHYS_DEBUG_DIR.
#pragma once

#include "runtime/device.hpp"
#include "schedule/plan.hpp"

namespace tinyphys {

// The steps over their buffers, for Graphviz; the plans of loop bodies are clusters.
std::string to_dot(const Plan& plan);

// The plan, then each kernel in it once: its graph, its text (.ll, of OpenCL .cl), and where the device tells it what its
// compiler makes of that (.opt.ll, .asm). Compiles them all.
void dump_plan(const Plan& plan, Device& device);

}  // namespace tinyphys
