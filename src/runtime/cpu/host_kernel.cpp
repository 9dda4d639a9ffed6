// What jumps run on the host's memory: kernels of the CPU device, called on the thread that asks.
#include "propagate/host_kernel.hpp"

#include "runtime/cpu/jit.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

class CpuHostKernel final : public HostKernel {
 public:
  explicit CpuHostKernel(const UOp& lambda) : code_(executable(device("cpu"), lambda)) {
    if (code_->is_scan() || !code_->kernel().scratch.empty())
      throw Error("compile", "a kernel for the host is elementwise", "", 0);
  }
  void run(std::span<void* const> outputs, std::span<const void* const> inputs,
           std::span<const std::int64_t> scalars) const override {
    const auto& code = static_cast<const JitCode&>(code_->code());
    const auto& parts = code_->kernel().parts;
    for (std::size_t i = 0; i < parts.size(); ++i)
      code.functions[i](outputs.data(), inputs.data(), scalars.data(), 0, parts[i].units, 0, 0);
  }

 private:
  std::shared_ptr<Executable> code_;
};

[[maybe_unused]] const bool added = set_host_kernels([](const UOp& lambda) {
  return std::shared_ptr<const HostKernel>(std::make_shared<CpuHostKernel>(lambda));
});

}  // namespace
}  // namespace tinyphys
