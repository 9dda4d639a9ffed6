#include "support/cost_model.hpp"

#include <algorithm>
#include <array>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "support/env.hpp"

namespace tinyphys {
namespace {

constexpr auto kModels = std::to_array<CostModel>({
    // A core of 2.6 GHz, measured by hand before there was --calibrate; mode_power_s is the other row's.
    {.kind = "amd-zen4",
     .op_s = 0.25e-9,
     .call_s = 2.5e-9,
     .multiply_add_s = 0.1e-9,
     .dd_multiply_add_s = 4e-9,
     .kernel_compile_s = 6e-3,
     .node_compile_s = 3e-4,
     .loop_pass_s = 2e-6,
     .scan_step_s = 8e-9,
     .extraction_s = 60e-9,
     .modes_build_cubic_s = 1.25e-9,
     .modes_build_square_s = 1.5e-7,
     .modes_build_row_s = 1e-5,
     .modes_apply_square_s = 2.2e-9,
     .modes_apply_row_s = 1.2e-6,
     .mode_power_s = 1.4e-6,
     .single_build_s = 4e-8,
     .single_apply_s = 6e-8,
     .lattice_probe_s = 150e-9,
     .lattice_mode_s = 1e-7,
     .lattice_tap_s = 25e-9,
     .fft_point_s = 0.5e-9,
     .lattice_point_s = 4e-9},
    // OpenBLAS 0.3.21 runs its oldest kernels there.
    {.kind = "intel-emerald-rapids",
     .op_s = 9e-11,
     .call_s = 1.6e-9,
     .multiply_add_s = 1.3e-10,
     .dd_multiply_add_s = 1.4e-9,
     .kernel_compile_s = 6.7e-3,
     .node_compile_s = 8e-4,
     .loop_pass_s = 1e-6,
     .scan_step_s = 3.9e-9,
     .extraction_s = 4.2e-8,
     .modes_build_cubic_s = 1.2e-9,
     .modes_build_square_s = 5.4e-7,
     .modes_build_row_s = 2e-6,
     .modes_apply_square_s = 2e-9,
     .modes_apply_row_s = 2e-7,
     .mode_power_s = 1.4e-6,
     .single_build_s = 1.2e-7,
     .single_apply_s = 5.3e-8,
     .lattice_probe_s = 2.5e-8,
     .lattice_mode_s = 1e-7,
     .lattice_tap_s = 4.3e-8,
     .fft_point_s = 2.7e-10,
     .lattice_point_s = 3.1e-8},
});

// Models as CPUID counts them, extended bits included.
struct Cpu {
  std::string_view vendor;
  unsigned family, first_model, last_model;
  std::string_view kind;
};
constexpr auto kCpus = std::to_array<Cpu>({
    {"AuthenticAMD", 25, 0x10, 0x1f, "amd-zen4"},
    {"AuthenticAMD", 25, 0x60, 0x7f, "amd-zen4"},
    {"AuthenticAMD", 25, 0xa0, 0xaf, "amd-zen4"},
    {"GenuineIntel", 6, 0x8f, 0x8f, "intel-emerald-rapids"},  // Sapphire Rapids, the same core
    {"GenuineIntel", 6, 0xcf, 0xcf, "intel-emerald-rapids"},
});

std::string_view kind_of_this_machine() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) != 0) {
    std::string vendor;
    for (const unsigned word : {b, d, c})
      for (int i = 0; i < 4; ++i) vendor += static_cast<char>(word >> (8 * i) & 0xff);
    if (__get_cpuid(1, &a, &b, &c, &d) != 0) {
      const unsigned family = (a >> 8 & 0xf) + ((a >> 8 & 0xf) == 0xf ? a >> 20 & 0xff : 0);
      const unsigned model = (a >> 4 & 0xf) + (a >> 12 & 0xf0);
      for (const Cpu& cpu : kCpus)
        if (cpu.vendor == vendor && cpu.family == family && cpu.first_model <= model &&
            model <= cpu.last_model)
          return cpu.kind;
    }
  }
#endif
  return kModels.front().kind;
}

}  // namespace

std::span<const CostModel> cost_models() { return kModels; }

const CostModel& cost_model() {
  static const std::string_view here = kind_of_this_machine();
  const std::string_view asked = env::cost_model();
  const std::string_view kind = asked == "auto" ? here : asked;
  const auto found =
      std::find_if(kModels.begin(), kModels.end(), [&](const CostModel& m) { return m.kind == kind; });
  return found != kModels.end() ? *found : kModels.front();
}

}  // namespace tinyphys
