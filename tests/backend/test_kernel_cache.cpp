// A kernel that an earlier process compiled: loaded and not compiled, trusted only as far as its file is whole and was made
// for this device.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <doctest/doctest.h>

#include "cache/store.hpp"
#include "kernel_helpers.hpp"
#include "support/debug.hpp"
#include "temporary_folder.hpp"
#include "tinyphys/kernels.hpp"
#include "tinyphys/tinyphys.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;
namespace fs = std::filesystem;

namespace {

// In a folder of its own.
struct OwnCache {
  TemporaryFolder folder;
  env::ScopedOverride on{"TINYPHYS_CACHE", "1"}, here{"TINYPHYS_CACHE_DIR", folder.path()};

  std::vector<std::string> files() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder.path())) out.push_back(entry.path().string());
    return out;
  }
  std::string the_file() const {
    REQUIRE(files().size() == 1);
    return files()[0];
  }
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

UOp product() { return lambda({mul(tensor(0, {37}), broadcast_to(scalar(1), Dims{37}))}, 2); }
// The values of the product, and what happened: nobody holds the code in between.
struct Outcome {
  double value;
  KernelCounts counts;
};
Outcome run_product(Device& d) {
  const KernelCounts before = kernel_counts();
  const auto e = compile(d, product());
  const double value = launch(d, *e, {doubles({37}, {1, 2, 3}), doubles({}, {5})})[0].real(2);
  const KernelCounts after = kernel_counts();
  return {value,
          {after.memory_hits - before.memory_hits, after.disk_hits - before.disk_hits,
           after.compiled - before.compiled, after.rejected - before.rejected}};
}
void check(const Outcome& o, std::int64_t disk_hits, std::int64_t compiled, std::int64_t rejected) {
  CHECK(o.value == 15);
  CHECK(o.counts.disk_hits == disk_hits);
  CHECK(o.counts.compiled == compiled);
  CHECK(o.counts.rejected == rejected);
}

// The tested device with another key, as another machine, driver or option would have.
class OtherDevice final : public Device {
 public:
  OtherDevice(Device& device, std::size_t field, std::string value)
      : device_(device), field_(field), value_(std::move(value)) {}
  std::string_view name() const override { return device_.name(); }
  const DeviceProperties& properties() const override { return device_.properties(); }
  Memory& memory() override { return device_.memory(); }
  std::string compile(const Source& s) override { return device_.compile(s); }
  KeyFields cache_key(const Source& s) const override {
    KeyFields fields = device_.cache_key(s);
    if (field_ < fields.size()) fields[field_].value = value_;
    return fields;
  }
  std::shared_ptr<LoadedCode> load(const Source& s, const std::string& bytes) override {
    return device_.load(s, bytes);
  }
  void launch(const Executable& e, const LaunchArguments& a) override { device_.launch(e, a); }

 private:
  Device& device_;
  std::size_t field_;
  std::string value_;
};

KeyFields key_fields() {
  Device& d = tested_device();
  return d.cache_key(source_of(d, product()));
}

}  // namespace

TEST_CASE("kernel cache: compiled once, then read; in memory while somebody holds it") {
  const OwnCache cache;
  Device& d = tested_device();
  check(run_product(d), 0, 1, 0);
  check(run_product(d), 1, 0, 0);
  check(run_product(d), 1, 0, 0);
  const auto held = compile(d, product());
  const Outcome again = run_product(d);
  CHECK(again.counts.memory_hits == 1);
  check(again, 0, 0, 0);
  CHECK(cache.files().size() == 1);
  const env::ScopedOverride off("TINYPHYS_CACHE", "0");
  const auto other = lambda({add(tensor(0, {41}), tensor(0, {41}))}, 1);
  compile(d, other);
  CHECK(cache.files().size() == 1);
}

TEST_CASE("kernel cache: the file tells kernel, key, graph and source") {
  const OwnCache cache;
  run_product(tested_device());
  KernelHeader header;
  KernelFile file;
  REQUIRE(decode(read_file(cache.the_file()), header, file) == "");
  const Source source = source_of(tested_device(), product());
  CHECK(file.name == source.name);
  CHECK(file.source == source.text);
  CHECK(file.graph == to_text(product()));
  CHECK(file.fields == key_fields());
  CHECK(file.payload == tested_device().compile(source));
  CHECK(fs::path(cache.the_file()).filename() == kernel_key(file.fields, file.source).hex() + ".kernel");
}

TEST_CASE("kernel cache: cut, flipped, foreign and senseless files are compiled anew, never run") {
  const OwnCache cache;
  Device& d = tested_device();
  check(run_product(d), 0, 1, 0);
  const std::string path = cache.the_file(), whole = read_file(path);
  KernelHeader header;
  KernelFile file;
  REQUIRE(decode(whole, header, file) == "");
  const std::size_t source = whole.find("\nsource "), payload = whole.find("\npayload ");
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{20}, kHeaderBytes,
                              kHeaderBytes + 10, source + 3, payload + 3, payload + 40, whole.size() - 1}) {
    CAPTURE(n);
    write_file(path, whole.substr(0, n));
    check(run_product(d), 0, 1, 1);
    CHECK(read_file(path).substr(kHeaderBytes) == whole.substr(kHeaderBytes));
  }
  for (const std::size_t at :
       {std::size_t{0}, std::size_t{18}, std::size_t{25}, std::size_t{45}, std::size_t{90}, kHeaderBytes + 2,
        source + 50, payload + 3, payload + 30, whole.size() - 2}) {
    CAPTURE(at);
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    write_file(path, bytes);
    check(run_product(d), 0, 1, 1);
  }
  // Whole and well signed, but of another CPU, or no code at all.
  KernelFile foreign = file;
  foreign.fields.back().value = "others";
  write_file(path, encode(foreign, 0));
  check(run_product(d), 0, 1, 1);
  KernelFile senseless = file;
  for (const std::string& bytes :
       {std::string(), std::string("no object"), file.payload.substr(0, file.payload.size() / 2)}) {
    senseless.payload = bytes;
    write_file(path, encode(senseless, 0));
    check(run_product(d), 0, 1, 1);
  }
  check(run_product(d), 1, 0, 0);
}

TEST_CASE(
    "kernel cache: another CPU, compiler, driver or option never finds an entry, and the miss says which") {
  const OwnCache cache;
  Device& d = tested_device();
  check(run_product(d), 0, 1, 0);
  const KeyFields fields = key_fields();
  REQUIRE(fields.size() >= 4);
  for (std::size_t i = 0; i < fields.size(); ++i) {
    OtherDevice other(d, i, "another");
    const env::ScopedOverride level("TINYPHYS_DEBUG", "2");
    const DebugCapture err;
    CAPTURE(fields[i].name);
    check(run_product(other), 0, 1, 0);
    check(run_product(other), 1, 0, 0);
    CHECK(cache.files().size() == 2);
    CHECK(err.text().find(fields[i].name + " is " + fields[i].value + ", not another") != std::string::npos);
    for (const std::string& f : cache.files()) {
      KernelHeader header;
      KernelFile file;
      REQUIRE(decode(read_file(f), header, file) == "");
      if (file.fields != fields) fs::remove(f);
    }
  }
  check(run_product(d), 1, 0, 0);
}

TEST_CASE("kernel cache: nothing is compiled for another dt, number of steps, or scalar") {
  const OwnCache cache;
  const System well(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.25 * (q * q * q * q).sum(); });
  const auto evolved = [&](double dt, std::int64_t steps, double factor) {
    const State s = well.evolve({Tensor::full({3}, 1.0), Tensor::full({3}, 0.0)}, {.dt = dt, .steps = steps});
    return (s.q * factor).sum().item<double>();
  };
  const double first = evolved(0.01, 10, 3.5);
  const std::int64_t compiled = kernels_compiled();
  CHECK(evolved(0.02, 10, 3.5) != first);
  CHECK(evolved(0.01, 11, 3.5) != first);
  CHECK(evolved(0.01, 10, 7.25) != first);
  CHECK(evolved(0.01, 10, 3.5) == first);
  CHECK(kernels_compiled() == compiled);
}

TEST_CASE("kernel cache: source, code and how it came are told for what is compiled and for what is read") {
  const OwnCache cache;
  Device& d = tested_device();
  for (const char* how : {"compiled", "read"}) {
    const env::ScopedOverride level("TINYPHYS_DEBUG", "kernel,source,ir,asm,cache");
    const DebugCapture err;
    run_product(d);
    const std::string told = err.text();
    CAPTURE(told);
    const std::string name = source_of(d, product()).name;
    CHECK(told.find("[tinyphys kernel] " + name + " " + how + " in ") != std::string::npos);
    CHECK(told.find("[tinyphys source] " + name) != std::string::npos);
    CHECK(told.find(std::string("[tinyphys cache] ") + (how[0] == 'c' ? "miss " : "hit ") + name) !=
          std::string::npos);
    // Where the device can tell them.
    if (!d.optimized(source_of(d, product())).empty())
      CHECK(told.find("[tinyphys ir] " + name) != std::string::npos);
    if (!d.disassemble(d.compile(source_of(d, product()))).empty())
      CHECK(told.find("[tinyphys asm] " + name) != std::string::npos);
  }
}

TEST_CASE("cpu: machine code taken apart has labels, names that are called, and an end") {
  Device& cpu = device("cpu");
  const Source s = source_of(cpu, lambda({unary(Op::SIN, tensor(0, {37}))}, 1));
  const std::string code = cpu.disassemble(cpu.compile(s));
  CHECK(code.find(s.name + "_0:\n") != std::string::npos);
  CHECK(code.find("\tret") != std::string::npos);
  CHECK(code.find("sin") != std::string::npos);
  CHECK(cpu.optimized(s).find("define void @" + s.name + "_0(") != std::string::npos);
  CHECK_THROWS_AS((void)cpu.disassemble("no object"), Error);
}
