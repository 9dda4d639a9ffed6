// What runs kernels. A device is six functions: alloc, free, copy, compile, load, launch.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/kernel.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Steps [first, last) of a scan kernel; last < 0: all of them, [0, steps of the SCAN). Stacked outputs and xs
// are indexed by the step itself; the carry goes from the inputs of this launch to its outputs, so that a
// long scan can be run in pieces.
struct StepRange {
  std::int64_t first = 0, last = -1;
};

struct LaunchArguments {
  std::span<void* const> outputs;         // one per output of the LAMBDA
  std::span<const void* const> inputs;    // one per PARAM; null for scalar slots
  std::span<const std::int64_t> scalars;  // one per PARAM: bits of a double (floats), else the value
  std::span<void* const> scratch{};       // as Kernel::scratch wants them; none: the device takes its own
  StepRange steps{};
};

// A compiled kernel before it is linked: relocatable, the same in every process on this machine.
struct Binary {
  std::string name;    // "k_" and a hash of the text: equal text, equal name
  std::string text;    // what it was compiled from; no pointers, no scalars
  std::string object;  // empty where the device has none
  std::shared_ptr<const Kernel> kernel;
  UOp lambda;
  double seconds = 0;  // spent compiling
};

// A kernel ready to run.
class Executable {
 public:
  explicit Executable(const Binary& b);
  virtual ~Executable() = default;
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  const std::string& name() const { return name_; }
  const std::string& text() const { return text_; }
  // Loops run one after another: 1, or more where a long reduction is done in blocks.
  int n_parts() const { return static_cast<int>(kernel_->parts.size()); }
  double compile_seconds() const { return seconds_; }
  // One thread, one launch (one step of a scan kernel): an estimate.
  double cost_ns() const;
  bool is_scan() const { return kernel_->is_scan; }
  const Kernel& kernel() const { return *kernel_; }
  const UOp& lambda() const { return lambda_; }
  // The steps that a launch means; resolves last < 0.
  StepRange steps(const LaunchArguments& a) const;

 private:
  std::string name_, text_;
  std::shared_ptr<const Kernel> kernel_;
  UOp lambda_;
  double seconds_;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;

  // Host memory, 64-byte aligned. Throws tp::Error when there is none left.
  virtual void* alloc(std::size_t bytes);
  virtual void free(void* p);
  virtual void copy(void* to, const void* from, std::size_t bytes);
  // LAMBDA to machine code. Throws tp::Error("compile", ...) for what no kernel can hold.
  virtual Binary compile_binary(const UOp& lambda) = 0;
  virtual std::shared_ptr<Executable> load(const Binary& b) = 0;
  // Returns when the outputs are there.
  virtual void launch(Executable& e, const LaunchArguments& a) = 0;

  // Both at once; equal text is compiled once as long as somebody holds its code.
  virtual std::shared_ptr<Executable> compile(const UOp& lambda) { return load(compile_binary(lambda)); }
  void launch(Executable& e, std::span<void* const> outputs, std::span<const void* const> inputs,
              std::span<const std::int64_t> scalars, StepRange steps = {}) {
    launch(e, LaunchArguments{outputs, inputs, scalars, {}, steps});
  }
};

// The code of a LAMBDA, made once as long as somebody holds it: the kernels of a long chain are one.
std::shared_ptr<Executable> executable(Device& device, const UOp& lambda);

// "cpu", "interp" or "null"; throws tp::Error for another name.
Device& device(std::string_view name);

// Kernels compiled to machine code in this process, on all devices; what was found ready does not count.
std::int64_t kernels_compiled();
void count_compiled_kernel();

// Each device's own file.
Device& cpu_device();
Device& interp_device();
Device& null_device();

}  // namespace tinyphys
