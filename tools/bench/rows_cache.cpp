// Kernels read from the disk.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "cache/store.hpp"
#include "process.hpp"
#include "runtime/device.hpp"
#include "uop/build.hpp"
#include "uop/uop.hpp"

namespace tinyphys::bench {
namespace {

constexpr std::int64_t kLength = 4096;

// For what is started within a scope.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() {
    if (old_)
      setenv(name_, old_->c_str(), 1);
    else
      unsetenv(name_);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

// sin(x) exp(-x^2) + x/2: the file is found, verified, linked and its symbol looked up. Reference: the same kernel compiled.
Bench cache_load() {
  const UOp x = param(0, DType::kFloat64, Dims{kLength});
  const UOp half = broadcast_to(param(1, DType::kFloat64, Dims{}, true), Dims{kLength});
  const UOp y = add(mul(unary(Op::SIN, x), unary(Op::EXP, neg(mul(x, x)))), mul(x, half));
  Device& cpu = device("cpu");
  const auto source =
      std::make_shared<const Source>(source_of(cpu, make(Op::LAMBDA, {y}, std::vector<std::int64_t>{2})));
  const KeyFields fields = cpu.cache_key(*source);
  const Hash128 key = kernel_key(fields, source->text);
  const auto folder = std::make_shared<TemporaryFolder>();
  KernelStore::Refusal refusal;
  const std::shared_ptr<KernelStore> store = KernelStore::open(folder->path() + "/cache", {}, refusal);
  if (!store) throw std::runtime_error(refusal.why);
  const std::string code = cpu.compile(*source);
  store->publish({source->name, fields, "", source->text, code});
  Bench b;
  // Unloading is not loading.
  b.work = [=, &cpu, held = folder](long repeat) {
    std::vector<std::shared_ptr<LoadedCode>> loaded;
    loaded.reserve(1);
    double seconds = 0;
    for (long i = 0; i < repeat; ++i) {
      const auto start = Clock::now();
      const std::optional<std::string> bytes = store->load(key, fields, source->text);
      if (!bytes || *bytes != code) throw Wrong("the kernel was not found");
      loaded.push_back(cpu.load(*source, *bytes));
      seconds += seconds_since(start);
      loaded.clear();
    }
    return seconds;
  };
  b.reference = timed([=, &cpu] { consume(cpu.compile(*source)); });
  b.finish = [=] { return fmt::format("{} bytes of code", code.size()); };
  return b;
}

// The difference of two processes that are started in turn: examples/harmonic_chain with its own input, and its --help, which
// loads the same libraries and does nothing.
Bench cache_process() {
  const std::string program = build_folder() + "/examples/harmonic_chain";
  if (!std::filesystem::exists(program)) throw std::runtime_error("examples/harmonic_chain is not built");
  const auto folder = std::make_shared<TemporaryFolder>();
  const auto run = [=](const char* option) {
    const Environment on("TINYPHYS_CACHE", "1"), here("TINYPHYS_CACHE_DIR", folder->path() + "/cache");
    return run_process({program, option}, folder->path());
  };
  const auto told = [=] {
    const Environment debug("TINYPHYS_DEBUG", "kernel");
    return run("--no-plot").errors;
  };
  if (told().find(" compiled in ") == std::string::npos) throw Wrong("the first process compiled nothing");
  const std::string second = told();
  if (second.find(" compiled in ") != std::string::npos || second.find(" read in ") == std::string::npos)
    throw Wrong("the second process compiled a kernel: " + second);
  const auto empty = std::make_shared<std::vector<double>>();
  Bench b;
  b.work = [=](long) {
    empty->push_back(run("--help").seconds);
    return run("--no-plot").seconds - empty->back();
  };
  b.sampling = {.warm_up = 2, .min_samples = 21, .max_samples = 61, .budget_s = 4, .min_sample_s = 0};
  b.finish = [=] { return fmt::format("--help takes {:.1f} ms", 1e3 * summarize(*empty).median); };
  return b;
}

}  // namespace

void add_cache_rows(std::vector<Row>& rows) {
  rows.push_back({.name = "cache/load",
                  .work = "one compiled kernel found on disk, verified and linked",
                  .n = 1,
                  .reference = "LLVM compiles it",
                  .set_up = cache_load});
  rows.push_back({.name = "cache/process",
                  .work = "examples/harmonic_chain --no-plot with its kernels on disk, less its --help",
                  .n = 1,
                  .set_up = cache_process});
}

}  // namespace tinyphys::bench
