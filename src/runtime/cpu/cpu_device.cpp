#include "runtime/cpu/cpu_device.hpp"

#include "render/llvm_ir.hpp"
#include "runtime/address.hpp"
#include "support/small_vector.hpp"
#include "support/thread_pool.hpp"

namespace tinyphys {
namespace {

// Below this, waking a thread costs more than it saves.
constexpr double kWorthThreadsNs = 20'000;

// Below this, a launch costs more than the kernel: what counts is how soon it is there.
constexpr double kSmallNs = 500;

CodeStyle style_of(const Kernel& k) {
  if (k.is_scan) return k.has_members ? CodeStyle::kVector : CodeStyle::kScalar;
  return k.cost_ns() < kSmallNs ? CodeStyle::kSmall : CodeStyle::kVector;
}

}  // namespace

const DeviceProperties& CpuDevice::properties() const {
  static const DeviceProperties p{
      .target = jit().target(),
      .render = [](const Kernel& k) { return render_llvm_ir(k, jit().render_target()); },
      .compute_units = threads(),
      .description = jit().compiler() + ", " + jit().cpu()};
  return p;
}

std::string CpuDevice::compile(const Source& s) {
  if (s.kernel->parts.empty()) return {};
  return jit().compile(s.text, symbol(s), style_of(*s.kernel));
}

KeyFields CpuDevice::cache_key(const Source& s) const {
  if (s.kernel->parts.empty()) return {};
  return {{"backend", "llvm"},
          {"compiler", jit().compiler()},
          {"device", std::string(name_)},  // is part of the symbols
          {"cpu", jit().cpu()},
          {"features", jit().features()},
          {"options", jit().options(style_of(*s.kernel))}};
}

std::shared_ptr<LoadedCode> CpuDevice::load(const Source& s, const std::string& object) {
  if (s.kernel->parts.empty()) return std::make_shared<JitCode>();
  return jit().load(object, symbol(s), static_cast<int>(s.kernel->parts.size()));
}

std::string CpuDevice::optimized(const Source& s) const {
  if (s.kernel->parts.empty()) return {};
  return jit().optimized(s.text, symbol(s), style_of(*s.kernel));
}

std::string CpuDevice::disassemble(const std::string& object) const { return jit().disassemble(object); }

// The code of one kernel is loaded for each device apart.
std::string CpuDevice::symbol(const Source& s) const {
  return offset_ == 0 ? s.name : s.name + "_" + std::string(name_);
}

void* CpuDevice::pointer(const Storage& s) const {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(address_in(memory_, s)) ^ offset_);
}

void CpuDevice::launch(const Executable& e, const LaunchArguments& a) {
  constexpr std::size_t kFew = 16;
  SmallVector<void*, kFew> outputs;
  SmallVector<const void*, kFew> inputs;
  for (const Storage* s : a.outputs) outputs.push_back(pointer(*s));
  for (const Storage* s : a.inputs) inputs.push_back(s ? pointer(*s) : nullptr);
  // The buffers between the parts come after those of the caller.
  for (const Storage* s : a.scratch) {
    outputs.push_back(pointer(*s));
    inputs.push_back(outputs.back());
  }
  const Kernel& k = e.kernel();
  const StepRange steps = e.steps(a);
  const auto& code = static_cast<const JitCode&>(e.code());
  for (std::size_t i = 0; i < k.parts.size(); ++i) {
    const KernelFunction f = code.functions[i];
    const Kernel::Part& part = k.parts[i];
    const double passes = k.is_scan ? static_cast<double>(steps.last - steps.first) : 1;
    if (part.units == 1 || part.cost_ns * passes < kWorthThreadsNs) {
      f(outputs.data(), inputs.data(), a.scalars.data(), 0, part.units, steps.first, steps.last);
      continue;
    }
    parallel_for(part.units, [&](long begin, long end) {
      f(outputs.data(), inputs.data(), a.scalars.data(), begin, end, steps.first, steps.last);
    });
  }
}

namespace {

[[maybe_unused]] const bool added = add_device("cpu", []() -> Device& {
  // Leaked on purpose, as the JIT: its code may be held by static objects.
  static Device* d = new CpuDevice("cpu", host_memory(), 0);
  return *d;
});

}  // namespace
}  // namespace tinyphys
