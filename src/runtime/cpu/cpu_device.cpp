// The CPU: LLVM machine code, our thread pool.
#include <chrono>
#include <map>
#include <mutex>

#include "render/llvm_ir.hpp"
#include "runtime/cpu/jit.hpp"
#include "runtime/device.hpp"
#include "support/debug.hpp"
#include "support/hash.hpp"
#include "support/thread_pool.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

// Below this, waking a thread costs more than it saves.
constexpr double kWorthThreadsNs = 20'000;

// Below this, a launch costs more than the kernel: what counts is how soon it is there.
constexpr double kSmallNs = 500;

class CpuExecutable final : public Executable {
 public:
  CpuExecutable(const Binary& b, std::shared_ptr<JitCode> c) : Executable(b), code(std::move(c)) {}
  std::shared_ptr<JitCode> code;
};

class CpuDevice final : public Device {
 public:
  std::string_view name() const override { return "cpu"; }

  Binary compile_binary(const UOp& lambda) override {
    Binary b = render(lambda);
    compile_object(b);
    return b;
  }

  std::shared_ptr<Executable> load(const Binary& b) override {
    if (auto code = find(b.name)) return std::make_shared<CpuExecutable>(b, std::move(code));
    auto code = b.kernel->parts.empty()
                    ? std::make_shared<JitCode>()
                    : jit().load(b.object, b.name, static_cast<int>(b.kernel->parts.size()));
    std::lock_guard lock(mutex_);
    auto& known = loaded_[b.name];
    if (auto first = known.lock()) code = std::move(first);  // another thread was faster
    known = code;
    return std::make_shared<CpuExecutable>(b, std::move(code));
  }

  std::shared_ptr<Executable> compile(const UOp& lambda) override {
    // Structures that differ can give one text (only shapes of views differ, say).
    Binary b = render(lambda);
    if (!find(b.name)) compile_object(b);
    return load(b);
  }

  using Device::launch;
  void launch(Executable& e, const LaunchArguments& a) override {
    auto& x = static_cast<CpuExecutable&>(e);
    const Kernel& k = x.kernel();
    const StepRange steps = x.steps(a);
    if (k.scratch.empty()) return run(x, a.outputs.data(), a.inputs.data(), a.scalars.data(), steps);
    // The buffers between the parts come after those of the caller.
    std::vector<void*> outputs(a.outputs.begin(), a.outputs.end());
    std::vector<const void*> inputs(a.inputs.begin(), a.inputs.end());
    outputs.resize(k.outputs.size() - k.scratch.size());
    inputs.resize(k.params.size() - k.scratch.size());
    std::vector<StorageRef> own;
    for (std::size_t i = 0; i < k.scratch.size(); ++i) {
      if (a.scratch.empty()) own.push_back(StorageRef::allocate(static_cast<std::size_t>(k.scratch[i])));
      void* p = a.scratch.empty() ? own.back()->data : a.scratch[i];
      outputs.push_back(p);
      inputs.push_back(p);
    }
    run(x, outputs.data(), inputs.data(), a.scalars.data(), steps);
  }

 private:
  static Binary render(const UOp& lambda) {
    const auto start = std::chrono::steady_clock::now();
    Binary b;
    b.lambda = lambda;
    b.kernel = std::make_shared<const Kernel>(lower_kernel(lambda, jit().target()));
    b.text = render_llvm_ir(*b.kernel, jit().render_target());
    b.name = "k_" + hash_bytes(b.text).hex();
    b.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return b;
  }

  static CodeStyle style_of(const Kernel& k) {
    if (k.is_scan) return CodeStyle::kScalar;
    double cost = 0;
    for (const Kernel::Part& part : k.parts) cost += part.cost_ns;
    return cost < kSmallNs ? CodeStyle::kSmall : CodeStyle::kVector;
  }

  static void compile_object(Binary& b) {
    if (b.kernel->parts.empty()) return;
    if (debug_enabled(4)) debug_print(4, "ir", b.name + "\n" + b.text);
    const auto start = std::chrono::steady_clock::now();
    b.object = jit().compile(b.text, b.name, style_of(*b.kernel));
    b.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    count_compiled_kernel();
    if (debug_enabled(5)) debug_print(5, "asm", jit().assembly(b.text, b.name, style_of(*b.kernel)));
  }

  std::shared_ptr<JitCode> find(const std::string& name) {
    std::lock_guard lock(mutex_);
    const auto it = loaded_.find(name);
    return it == loaded_.end() ? nullptr : it->second.lock();
  }

  static void run(CpuExecutable& x, void* const* outputs, const void* const* inputs,
                  const std::int64_t* scalars, StepRange steps) {
    const Kernel& k = x.kernel();
    for (std::size_t i = 0; i < k.parts.size(); ++i) {
      const KernelFunction f = x.code->functions[i];
      const Kernel::Part& part = k.parts[i];
      if (part.units == 1 || part.cost_ns < kWorthThreadsNs) {
        f(outputs, inputs, scalars, 0, part.units, steps.first, steps.last);
        continue;
      }
      parallel_for(part.units, [&](long begin, long end) {
        f(outputs, inputs, scalars, begin, end, steps.first, steps.last);
      });
    }
  }

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<JitCode>> loaded_;
};

}  // namespace

Device& cpu_device() {
  // Leaked on purpose, as the JIT: its code may be held by static objects.
  static Device* d = new CpuDevice;
  return *d;
}

}  // namespace tinyphys
