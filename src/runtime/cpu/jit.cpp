#include "runtime/cpu/jit.hpp"

#include <algorithm>
#include <cstdio>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <optional>

#include <llvm-c/Core.h>
#include <llvm-c/Disassembler.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/AsmParser/Parser.h>
#include <llvm/ExecutionEngine/Orc/CompileUtils.h>
#include <llvm/ExecutionEngine/Orc/ExecutionUtils.h>
#include <llvm/ExecutionEngine/Orc/JITTargetMachineBuilder.h>
#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Object/ObjectFile.h>
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

// What compiling needs and loading does not: made when the first kernel is compiled.
class Compiler {
 public:
  Compiler(const std::string& cpu, const std::vector<std::string>& features) {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    orc::JITTargetMachineBuilder builder{llvm::Triple(llvm::sys::getProcessTriple())};
    builder.setCPU(cpu);
    builder.addFeatures(features);
    builder.setRelocationModel(llvm::Reloc::PIC_);
    builder.setCodeModel(llvm::CodeModel::Small);
    builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::Default);
    // Equal text must give equal bits: nothing is fused but llvm.fma.
    builder.getOptions().AllowFPOpFusion = llvm::FPOpFusion::Strict;
    machine_ = need(builder.createTargetMachine());
  }

  std::string optimized(const std::string& text, const std::string& name, CodeStyle style) {
    llvm::LLVMContext context;
    std::string out;
    llvm::raw_string_ostream(out) << *parse(context, text, name, style);
    return out;
  }

  std::string compile(const std::string& text, const std::string& name, CodeStyle style) {
    llvm::LLVMContext context;
    const auto module = parse(context, text, name, style);
    const auto buffer = need(orc::SimpleCompiler(*machine_)(*module));
    return buffer->getBuffer().str();
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

  std::unique_ptr<llvm::TargetMachine> machine_;
};

class LlvmJit final : public Jit {
 public:
  LlvmJit()
      : session_(need(orc::SelfExecutorProcessControl::Create(
            nullptr, std::make_unique<orc::InPlaceTaskDispatcher>()))),
        linker_(session_),
        library_(session_.createBareJITDylib("kernels")) {
    library_.addGenerator(need(orc::DynamicLibrarySearchGenerator::GetForCurrentProcess('\0')));
    cpu_ = llvm::sys::getHostCPUName().str();
    const auto host = llvm::sys::getHostCPUFeatures();
    for (const auto& f : host) feature_list_.push_back((f.second ? "+" : "-") + f.first().str());
    std::sort(feature_list_.begin(), feature_list_.end(),
              [](const std::string& a, const std::string& b) { return a.substr(1) < b.substr(1); });
    features_ = llvm::join(feature_list_, ",");

    auto has = [&](const char* f) { return host.lookup(f); };
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

  // What Compiler asks for is said here, each change of it too: files of a cache tell versions apart by this.
  std::string options(CodeStyle style) const override {
    return std::string("codegen ") + row_of(style).level_name + "; passes " + row_of(style).passes +
           "; pic, small code model, fp fusion strict; calls 1";
  }

  std::string compile(const std::string& text, const std::string& name, CodeStyle style) override {
    const std::lock_guard lock(mutex_);
    if (!compiler_) compiler_.emplace(cpu_, feature_list_);
    return compiler_->compile(text, name, style);
  }

  std::string optimized(const std::string& text, const std::string& name, CodeStyle style) override {
    const std::lock_guard lock(mutex_);
    if (!compiler_) compiler_.emplace(cpu_, feature_list_);
    return compiler_->optimized(text, name, style);
  }

  std::shared_ptr<JitCode> load(const std::string& object, const std::string& name, int functions) override {
    auto code = std::make_shared<TrackedCode>(library_.createResourceTracker());
    need(linker_.add(code->tracker, llvm::MemoryBuffer::getMemBufferCopy(object, name)));
    for (int i = 0; i < functions; ++i)
      code->functions.push_back(need(session_.lookup({&library_}, name + "_" + std::to_string(i)))
                                    .getAddress()
                                    .toPtr<KernelFunction>());
    return code;
  }

  std::string disassemble(const std::string& bytes) override {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetDisassembler();
    const std::unique_ptr<void, decltype(&LLVMDisasmDispose)> disassembler(
        LLVMCreateDisasmCPUFeatures(llvm::sys::getProcessTriple().c_str(), cpu_.c_str(), features_.c_str(),
                                    nullptr, 0, nullptr, nullptr),
        &LLVMDisasmDispose);
    if (!disassembler) throw Error("disassemble", "LLVM has no disassembler for this machine", "", 0);
    LLVMSetDisasmOptions(disassembler.get(), LLVMDisassembler_Option_PrintImmHex |
                                                 LLVMDisassembler_Option_AsmPrinterVariant);  // Intel's
    const auto object =
        need(llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(bytes, "kernel")));
    std::string out;
    for (const llvm::object::SectionRef& section : object->sections()) {
      if (!section.isText() || section.getSize() == 0) continue;
      // What stands at an address: labels of symbols, names that the linker puts in.
      std::map<std::uint64_t, std::string> labels, names;
      for (const llvm::object::SymbolRef& symbol : object->symbols())
        if (need(symbol.getSection()) == section &&
            need(symbol.getType()) == llvm::object::SymbolRef::ST_Function)
          labels[need(symbol.getAddress())] = need(symbol.getName()).str();
      for (const llvm::object::SectionRef& r : object->sections())
        if (need(r.getRelocatedSection()) == section)
          for (const llvm::object::RelocationRef& relocation : r.relocations())
            if (const auto symbol = relocation.getSymbol(); symbol != object->symbol_end())
              names[relocation.getOffset()] = need(symbol->getName()).str();
      const llvm::StringRef code = need(section.getContents());
      std::vector<std::uint8_t> writable(code.bytes_begin(), code.bytes_end());
      for (std::uint64_t at = 0; at < writable.size();) {
        if (const auto label = labels.find(at); label != labels.end()) out += label->second + ":\n";
        char text[256];
        const std::size_t size = LLVMDisasmInstruction(disassembler.get(), writable.data() + at,
                                                       writable.size() - at, at, text, sizeof text);
        if (size == 0) throw Error("disassemble", "no instruction at byte " + std::to_string(at), "", 0);
        char address[24];
        std::snprintf(address, sizeof address, "%6llx", static_cast<unsigned long long>(at));
        out += std::string(address) + text;
        for (auto name = names.lower_bound(at); name != names.end() && name->first < at + size; ++name)
          if (!name->second.empty()) out += "  # " + name->second;
        out += "\n";
        at += size;
      }
    }
    return out;
  }

 private:
  orc::ExecutionSession session_;
  orc::ObjectLinkingLayer linker_;
  orc::JITDylib& library_;
  std::vector<std::string> feature_list_;
  std::mutex mutex_;  // one target machine, one compilation at a time
  std::optional<Compiler> compiler_;
};

}  // namespace

Jit& jit() {
  // Leaked on purpose: executables held by static objects are dropped after any destructor order we could
  // choose, and their code must stay mapped until then.
  static Jit* j = new LlvmJit;
  return *j;
}

}  // namespace tinyphys
