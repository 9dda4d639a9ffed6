// Lowers and renders, never runs: for tests of the text, on any machine. Its target is fixed, so that golden
// texts do not depend on the host.
#include "render/llvm_ir.hpp"
#include "runtime/device.hpp"

namespace tinyphys {
namespace {

class NullDevice final : public Device {
 public:
  std::string_view name() const override { return "null"; }
  const DeviceProperties& properties() const override { return properties_; }
  bool runs() const override { return false; }
  std::string compile(const Source&) override { return {}; }
  std::shared_ptr<LoadedCode> load(const Source&, const std::string&) override { return nullptr; }
  void launch(const Executable&, const LaunchArguments&) override {}

 private:
  DeviceProperties properties_{.target = {.render = kLlvmCaps},
                               .render = [](const Kernel& k) { return render_llvm_ir(k, RenderTarget{}); },
                               .description = "compiles and runs nothing"};
};

[[maybe_unused]] const bool added = add_device("null", []() -> Device& {
  // Leaked on purpose: it is used by whatever outlives main.
  static Device* d = new NullDevice;
  return *d;
});

}  // namespace
}  // namespace tinyphys
