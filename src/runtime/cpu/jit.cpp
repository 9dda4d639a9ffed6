#include "runtime/cpu/jit.hpp"

#include <algorithm>
#include <dlfcn.h>
#include <mutex>

#include <llvm-c/Core.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/AsmParser/Parser.h>
#include <llvm/ExecutionEngine/Orc/CompileUtils.h>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/SourceMgr.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/TargetParser/Host.h>

#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

namespace orc = llvm::orc;

template <class T> T need(llvm::Expected<T> e) {
  if (!e) throw Error("compile", "LLVM: " + llvm::toString(e.takeError()), "", 0);
  return std::move(*e);
}
void need(llvm::Error e) {
  if (e) throw Error("compile", "LLVM: " + llvm::toString(std::move(e)), "", 0);
}

// What is done for a style.
struct StyleRow {
  llvm::CodeGenOptLevel level;
  const char* level_name;
  const char* passes;  // of each function, in LLVM's spelling
};
// SLP pairs up equal work on different bodies: 1.4 times the speed of a three-body step. InstCombine brought nothing on
// top.
const StyleRow& row_of(CodeStyle style) {
  static constexpr StyleRow kVectorRow{llvm::CodeGenOptLevel::Default, "default", "mem2reg,early-cse"},
      kScalarRow{llvm::CodeGenOptLevel::Default, "default", "mem2reg,early-cse,slp-vectorizer,early-cse"},
      kSmallRow{llvm::CodeGenOptLevel::None, "none", "mem2reg,early-cse"};
  switch (style) {
    case CodeStyle::kScalar: return kScalarRow;
    case CodeStyle::kSmall: return kSmallRow;
    default: return kVectorRow;
  }
}

class TrackedCode final : public JitCode {
 public:
  explicit TrackedCode(orc::ResourceTrackerSP t) : tracker(std::move(t)) {}
  ~TrackedCode() override { llvm::consumeError(tracker->remove()); }
  orc::ResourceTrackerSP tracker;
};

class LlvmJit final : public Jit {
 public:
  LlvmJit() {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    auto builder = need(orc::JITTargetMachineBuilder::detectHost());
    builder.setRelocationModel(llvm::Reloc::PIC_);
    builder.setCodeModel(llvm::CodeModel::Small);
    builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::Default);
    // Equal text must give equal bits: nothing is fused but llvm.fma.
    builder.getOptions().AllowFPOpFusion = llvm::FPOpFusion::Strict;
    cpu_ = builder.getCPU();
    std::vector<std::string> features_on_off = builder.getFeatures().getFeatures();
    std::sort(features_on_off.begin(), features_on_off.end(),
              [](const std::string& a, const std::string& b) { return a.substr(1) < b.substr(1); });
    features_ = llvm::join(features_on_off, ",");
    machine_ = need(builder.createTargetMachine());
    jit_ = need(orc::LLJITBuilder().setJITTargetMachineBuilder(std::move(builder)).create());
    jit_->getMainJITDylib().addGenerator(need(
        orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(jit_->getDataLayout().getGlobalPrefix())));

    const auto features = llvm::sys::getHostCPUFeatures();
    auto has = [&](const char* f) { return features.lookup(f); };
    const bool avx512 = has("avx512f") && has("avx512dq") && has("avx512vl") && has("avx512bw");
    target_.vector_bytes = avx512 ? 64 : has("avx2") ? 32 : 16;
    target_.cheap_masks = avx512;
    target_.render = kLlvmCaps;
    render_target_.vector_bytes = target_.vector_bytes;
    // In the global scope, where the generator above finds it.
    render_target_.vector_math = dlopen("libmvec.so.1", RTLD_NOW | RTLD_GLOBAL) != nullptr;
  }

  std::string compiler() const override {
    unsigned major = 0, minor = 0, patch = 0;
    LLVMGetVersion(&major, &minor, &patch);
    return "LLVM " + std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
  }

  // What the constructor and parse() ask for is said here, each change of it too.
  std::string options(CodeStyle style) const override {
    return std::string("codegen ") + row_of(style).level_name + "; passes " + row_of(style).passes +
           "; pic, small code model, fp fusion strict; calls 1";
  }

  std::string compile(const std::string& text, const std::string& name, CodeStyle style) override {
    std::lock_guard lock(mutex_);
    llvm::LLVMContext context;
    const auto module = parse(context, text, name, style);
    const auto buffer = need(orc::SimpleCompiler(*machine_)(*module));
    return buffer->getBuffer().str();
  }

  std::string assembly(const std::string& text, const std::string& name, CodeStyle style) override {
    std::lock_guard lock(mutex_);
    llvm::LLVMContext context;
    const auto module = parse(context, text, name, style);
    llvm::SmallString<0> out;
    llvm::raw_svector_ostream stream(out);
    llvm::legacy::PassManager passes;
    if (machine_->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::AssemblyFile))
      throw Error("compile", "LLVM: no assembly printer", "", 0);
    passes.run(*module);
    return out.str().str();
  }

  std::shared_ptr<JitCode> load(const std::string& object, const std::string& name, int functions) override {
    auto code = std::make_shared<TrackedCode>(jit_->getMainJITDylib().createResourceTracker());
    need(jit_->addObjectFile(code->tracker, llvm::MemoryBuffer::getMemBufferCopy(object, name)));
    for (int i = 0; i < functions; ++i)
      code->functions.push_back(need(jit_->lookup(name + "_" + std::to_string(i))).toPtr<KernelFunction>());
    return code;
  }

 private:
  std::unique_ptr<llvm::Module> parse(llvm::LLVMContext& context, const std::string& text,
                                      const std::string& name, CodeStyle style) {
    llvm::SMDiagnostic diagnostic;
    auto module = llvm::parseAssemblyString(text, diagnostic, context);
    std::string message;
    llvm::raw_string_ostream stream(message);
    if (!module) {
      diagnostic.print("kernel", stream, false);
      throw Error("compile", "generated IR does not parse: " + stream.str(), "", 0);
    }
    if (llvm::verifyModule(*module, &stream))
      throw Error("compile", "generated IR is not valid: " + stream.str(), "", 0);
    machine_->setOptLevel(row_of(style).level);
    module->setDataLayout(machine_->createDataLayout());
    module->setTargetTriple(machine_->getTargetTriple().str());
    for (llvm::Function& f : *module) {
      if (f.isDeclaration()) continue;
      if (f.getName().starts_with("kernel_")) f.setName(name + f.getName().substr(sizeof("kernel") - 1));
      optimize(f, style);
    }
    return module;
  }

  void optimize(llvm::Function& f, CodeStyle style) {
    llvm::LoopAnalysisManager loops;
    llvm::FunctionAnalysisManager functions;
    llvm::CGSCCAnalysisManager calls;
    llvm::ModuleAnalysisManager modules;
    llvm::PassBuilder builder(machine_.get());
    builder.registerModuleAnalyses(modules);
    builder.registerCGSCCAnalyses(calls);
    builder.registerFunctionAnalyses(functions);
    builder.registerLoopAnalyses(loops);
    builder.crossRegisterProxies(loops, functions, calls, modules);
    llvm::FunctionPassManager passes;
    need(builder.parsePassPipeline(passes, row_of(style).passes));
    passes.run(f, functions);
  }

  std::mutex mutex_;  // one target machine, one compilation at a time
  std::unique_ptr<llvm::TargetMachine> machine_;
  std::unique_ptr<orc::LLJIT> jit_;
};

}  // namespace

Jit& jit() {
  // Leaked on purpose: executables held by static objects are dropped after any destructor order we could
  // choose, and their code must stay mapped until then.
  static Jit* j = new LlvmJit;
  return *j;
}

}  // namespace tinyphys
