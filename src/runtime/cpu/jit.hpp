// LLVM behind a narrow door: IR text to object bytes, object bytes to functions. No LLVM header outside
// cpu/*.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codegen/kernel.hpp"
#include "render/llvm_ir.hpp"
#include "runtime/device.hpp"

namespace tinyphys {

using KernelFunction = void (*)(void* const* outputs, const void* const* inputs, const std::int64_t* slots,
                                std::int64_t begin, std::int64_t end, std::int64_t first, std::int64_t last);

// Linked functions.
class JitCode : public LoadedCode {
 public:
  std::vector<KernelFunction> functions;
};

enum class CodeStyle : std::uint8_t {
  kVector,  // comes as it should be
  kScalar,  // straight-line scalar code, which gains from the optimizer
  kSmall    // runs for less than a launch costs: compiled in a fifth of the time, with no optimizer
};

class Jit {
 public:
  virtual ~Jit() = default;
  const Target& target() const { return target_; }
  const RenderTarget& render_target() const { return render_target_; }
  // Of the host, as LLVM names them: "znver5", "+avx512f,...". In the order of the alphabet.
  const std::string& cpu() const { return cpu_; }
  const std::string& features() const { return features_; }
  // "LLVM 19.1.7", the one that runs.
  virtual std::string compiler() const = 0;
  // All that is asked of it for a style.
  virtual std::string options(CodeStyle style) const = 0;

  // Functions @kernel_i of the text become `name`_i of the object.
  virtual std::string compile(const std::string& text, const std::string& name, CodeStyle style) = 0;
  // The same text after the passes of the style.
  virtual std::string optimized(const std::string& text, const std::string& name, CodeStyle style) = 0;
  virtual std::shared_ptr<JitCode> load(const std::string& object, const std::string& name,
                                        int functions) = 0;
  // The machine code of an object, in Intel's notation, with the names that it calls.
  virtual std::string disassemble(const std::string& object) = 0;

 protected:
  Target target_;
  RenderTarget render_target_;
  std::string cpu_, features_;
};

Jit& jit();

}  // namespace tinyphys
