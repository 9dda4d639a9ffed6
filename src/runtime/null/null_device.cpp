// Lowers and renders, never runs: for tests of the text, on any machine. Its target is fixed, so that golden
// texts do not depend on the host.
#include "render/llvm_ir.hpp"
#include "runtime/device.hpp"

namespace tinyphys {
namespace {

class NullDevice final : public Device {
 public:
  std::string_view name() const override { return "null"; }
  Binary compile_binary(const UOp& lambda) override {
    Binary b;
    b.lambda = lambda;
    b.kernel = std::make_shared<const Kernel>(lower_kernel(lambda, Target{.render = kLlvmCaps}));
    b.text = render_llvm_ir(*b.kernel, RenderTarget{});
    b.name = "null";
    count_compiled_kernel();
    return b;
  }
  std::shared_ptr<Executable> load(const Binary& b) override { return std::make_shared<Executable>(b); }
  using Device::launch;
  void launch(Executable&, const LaunchArguments&) override {}
};

}  // namespace

Device& null_device() {
  // Leaked on purpose: it is used by whatever outlives main.
  static Device* d = new NullDevice;
  return *d;
}

}  // namespace tinyphys
