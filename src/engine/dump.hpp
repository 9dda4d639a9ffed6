// A plan and its kernels in TINYPHYS_DEBUG_DIR.
#pragma once

#include "engine/run.hpp"
#include "runtime/device.hpp"
#include "schedule/plan.hpp"

namespace tinyphys {

// The steps over their buffers, for Graphviz; the plans of loop bodies are clusters.
std::string to_dot(const Plan& plan);

// The plan, then each kernel in it once: its graph, its text (.ll, of OpenCL .cl), and where the device tells it what its
// compiler makes of that (.opt.ll, .asm) and how long that takes (.time). Compiles them all.
void dump_plan(const Plan& plan, Device& device);

// After the plan's first run: a line for each step that ran, "2.0  kernel  1000 runs  3.250 ms". What a guard chose is
// within the time of the guard.
std::string times_text(const Plan& plan, const StepTimes& times, const std::string& number = "");
// The times and what explain() says of the values, each text once.
void dump_run(const Plan& plan, const StepTimes& times, std::span<const std::string> reports);

}  // namespace tinyphys
