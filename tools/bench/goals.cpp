// All stated goals, as data. A row without an entry here is for information.
#include <algorithm>
#include <array>

#include "bench.hpp"

namespace tinyphys::bench {
namespace {

constexpr auto kGoals = std::to_array<Goal>({
    {.row = "cache/load", .words = "<= 0.1 ms", .max_seconds = 0.1e-3},
    {.row = "cache/process",
     .words = "compiles nothing, <= 15 ms more than its --help",
     .max_seconds = 15e-3},
    {.row = "chain/process", .words = "from start to printed result <= 0.15 s", .max_seconds = 0.15},
    {.row = "dense/cold", .words = "<= 6 x dsyevd, ratio >= 0.167", .min_ratio = 1.0 / 6},
    {.row = "dense/second", .words = "compiles nothing, <= 5 ms", .max_seconds = 5e-3},
    {.row = "kernel/first", .words = "<= 15 ms after start-up", .max_seconds = 15e-3},
    {.row = "realize/cached", .words = "record, plan and run <= 2.5 us", .max_seconds = 2.5e-6},
    {.row = "graph/build", .words = "<= 300 ns a node", .max_seconds = 300e-9},
    {.row = "long/chain", .words = "<= 10 us a step of x = x c + d", .max_seconds = 10e-6},
    {.row = "long/chain-1e6", .words = "<= 10 us a step of x = x c + d", .max_seconds = 10e-6},
    {.row = "long/numbers", .words = "<= 10 us a node, each step with its own c and d", .max_seconds = 10e-6},
    {.row = "long/gradient", .words = "<= 10 us a node", .max_seconds = 10e-6},
    {.row = "long/cat", .words = "<= 10 us a piece", .max_seconds = 10e-6},
    {.row = "long/stack", .words = "<= 10 us a piece", .max_seconds = 10e-6},
    {.row = "loop/nonlinear", .words = "<= 1.5 x the scan and 200 ns an operation", .min_ratio = 1.0},
    {.row = "loop/linear", .words = "<= 1.5 x the scan and 200 ns an operation", .min_ratio = 1.0},
    {.row = "lattice/jump", .words = "<= 10 FFTW pairs of q and p, ratio >= 0.1", .min_ratio = 0.1},
    {.row = "ensemble/jump", .words = "<= 3 passes over its memory, ratio >= 0.333", .min_ratio = 1.0 / 3},
    {.row = "outer-solar", .words = "speed >= 0.7 x C++ -O3", .min_ratio = 0.7},
    {.row = "native/wave", .words = ">= 0.95 of the hand-written kernel", .min_ratio = 0.95},
    {.row = "native/wave-values", .words = ">= 0.95 of the hand-written kernel", .min_ratio = 0.95},
    {.row = "native/wave-sum", .words = ">= 0.95 of the hand-written kernel", .min_ratio = 0.95},
    {.row = "native/axpy", .words = ">= 0.95 of a non-temporal triad", .min_ratio = 0.95},
    {.row = "native/gravity", .words = ">= 0.9 of the hand-written kernel", .min_ratio = 0.9},
    {.row = "native/gravity-f32", .words = ">= 0.9 of the hand-written kernel", .min_ratio = 0.9},
    {.row = "native/gravity-gradient", .words = ">= 0.9 of the hand-written kernel", .min_ratio = 0.9},
    {.row = "native/henon-many", .words = ">= 0.95 of the hand-written kernel", .min_ratio = 0.95},
    {.row = "native/henon-one", .words = ">= 1.0 of C++ -O3 -march=native", .min_ratio = 1.0},
    {.row = "native/henon-energy", .words = ">= 1.0 of C++ -O3 -march=native", .min_ratio = 1.0},
    {.row = "native/outer-solar", .words = ">= 2.0 x C++ -O3 -march=native", .min_ratio = 2.0},
    {.row = "native/ten-ops", .words = "<= 12 us beyond the arithmetic", .max_seconds = 12e-6},
    {.row = "opencl/elementwise", .words = "<= 1.3 x the CPU device, ratio >= 0.77", .min_ratio = 1 / 1.3},
    {.row = "opencl/pair-sums-f32", .words = "<= 1.3 x the CPU device, ratio >= 0.77", .min_ratio = 1 / 1.3},
    {.row = "opencl/pair-sums-f64", .words = "<= 1.6 x the CPU device, ratio >= 0.625", .min_ratio = 1 / 1.6},
    {.row = "project/plain",
     .words = "adds <= 2 x the step without it, ratio >= 0.333",
     .min_ratio = 1.0 / 3},
    {.row = "reverse", .words = "forward and reverse <= 1.3 x C++ -O3, ratio >= 0.77", .min_ratio = 1 / 1.3},
    {.row = "reverse/forward", .words = "reverse <= 3 x forward, ratio >= 0.25", .min_ratio = 0.25},
    {.row = "respa", .words = "speed >= 0.9 x C++ -O3", .min_ratio = 0.9},
    {.row = "split", .words = "speed >= 0.9 x C++ -O3", .min_ratio = 0.9},
    {.row = "three-body", .words = "speed >= 0.5 x C++ -O3", .min_ratio = 0.5},
});

}  // namespace

std::span<const Goal> goals() { return kGoals; }

const Goal* find_goal(std::string_view row) {
  const auto found = std::find_if(kGoals.begin(), kGoals.end(), [&](const Goal& g) { return g.row == row; });
  return found == kGoals.end() ? nullptr : &*found;
}

}  // namespace tinyphys::bench
