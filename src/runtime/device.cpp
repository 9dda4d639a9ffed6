#include "runtime/device.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include <fmt/format.h>

#include "cache/store.hpp"
#include "runtime/address.hpp"
#include "support/debug.hpp"
#include "support/devices.hpp"
#include "support/hash.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/kernels.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

std::atomic<std::int64_t> memory_hits{0}, disk_hits{0}, compiled{0};

// What is known under a key as long as somebody holds it. Leaked on purpose, as the devices.
template <class Key, class Value> class Known {
 public:
  std::shared_ptr<Value> find(const Key& key) {
    std::lock_guard lock(mutex_);
    const auto it = known_.find(key);
    return it == known_.end() ? nullptr : it->second.lock();
  }
  void insert(const Key& key, const std::shared_ptr<Value>& value) {
    std::lock_guard lock(mutex_);
    known_[key] = value;
    if (known_.size() < sweep_at_) return;
    std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<std::size_t>(1024, 2 * known_.size());
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::weak_ptr<Value>> known_;
  std::size_t sweep_at_ = 1024;
};

constexpr int kCodeLevel = 5;

// What the compiler made of a kernel. Made anew for what was read from the disk.
void tell_code(const Device& device, const Source& source, const std::string& bytes) {
  if (debug_enabled(kCodeLevel, "ir"))
    if (const std::string ir = device.optimized(source); !ir.empty())
      debug_print(kCodeLevel, "ir", source.name + "\n" + ir);
  if (debug_enabled(kCodeLevel, "asm"))
    if (const std::string code = device.disassemble(bytes); !code.empty())
      debug_print(kCodeLevel, "asm", source.name + "\n" + code);
}

// From the disk, or compiled and put there.
std::shared_ptr<LoadedCode> make_code(Device& device, const Source& source, const UOp& lambda) {
  constexpr int kKernelLevel = 2, kSourceLevel = 4;
  const auto start = std::chrono::steady_clock::now();
  const auto tell_kernel = [&](const char* how, std::size_t bytes) {
    if (!debug_enabled(kKernelLevel, "kernel")) return;
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    debug_print(kKernelLevel, "kernel",
                fmt::format("{} {} in {:.3f} ms for {}: {} loop nests, {} bytes of text, {} of code",
                            source.name, how, took.count(), device.name(), source.kernel->parts.size(),
                            source.text.size(), bytes));
  };
  if (!source.text.empty() && debug_enabled(kSourceLevel, "source"))
    debug_print(kSourceLevel, "source", source.name + "\n" + source.text);
  KeyFields fields = device.cache_key(source);
  KernelStore* store = fields.empty() ? nullptr : kernel_store();
  const Hash128 key = store ? kernel_key(fields, source.text) : Hash128{};
  if (store) {
    const bool told = debug_enabled(kKernelLevel, "cache");
    if (const std::optional<std::string> bytes = store->load(key, fields, source.text)) {
      try {
        std::shared_ptr<LoadedCode> code = device.load(source, *bytes);
        disk_hits.fetch_add(1, std::memory_order_relaxed);
        if (told) debug_print(kKernelLevel, "cache", "hit " + source.name + " as " + key.hex());
        tell_kernel("read", bytes->size());
        tell_code(device, source, *bytes);
        return code;
      } catch (const Error& e) {
        store->reject(key, e.what());
      }
    }
    if (told)
      debug_print(kKernelLevel, "cache",
                  "miss " + source.name + ": " + store->explain_miss(source.name, fields));
  }
  if (!store && !debug_enabled(kKernelLevel, "kernel") && !debug_enabled(kCodeLevel, "asm") &&
      !debug_enabled(kCodeLevel, "ir")) {
    std::shared_ptr<LoadedCode> code = device.compile_and_load(source);
    // What is evaluated as it stands has no text, and was not compiled.
    if (!source.text.empty()) compiled.fetch_add(1, std::memory_order_relaxed);
    return code;
  }
  std::string bytes = device.compile(source);
  // What is evaluated as it stands was not compiled.
  if (!bytes.empty()) compiled.fetch_add(1, std::memory_order_relaxed);
  std::shared_ptr<LoadedCode> code = device.load(source, bytes);
  if (!bytes.empty()) {
    tell_kernel("compiled", bytes.size());
    tell_code(device, source, bytes);
  }
  if (store) store->publish({source.name, std::move(fields), to_text(lambda), source.text, std::move(bytes)});
  return code;
}

struct DeviceRow {
  std::string_view name;
  Device& (*get)();
};
std::vector<DeviceRow>& rows() {
  static auto* r = new std::vector<DeviceRow>;
  return *r;
}

}  // namespace

Executable::Executable(Source source, UOp lambda, std::shared_ptr<LoadedCode> code, double seconds)
    : source_(std::move(source)), lambda_(std::move(lambda)), code_(std::move(code)), seconds_(seconds) {}

StepRange Executable::steps(const LaunchArguments& a) const {
  if (!is_scan() || a.steps.last >= 0) return a.steps;
  const Node* n = ScanView(lambda_->src(0)->src(0)).steps();
  if (n->op == Op::PARAM) return {a.steps.first, a.scalars[static_cast<std::size_t>(n->arg(0))]};
  return {a.steps.first, const_int(n)};
}

Source source_of(const Device& device, const UOp& lambda) {
  const DeviceProperties& p = device.properties();
  Source s;
  if (p.render) {
    s.kernel = std::make_shared<const Kernel>(lower_kernel(lambda, p.target));
    s.text = p.render(*s.kernel);
    s.name = "k_" + hash_bytes(s.text).hex();
    return s;
  }
  if (lambda->op != Op::LAMBDA || lambda->n_src == 0)
    throw Error("compile", "a kernel is a LAMBDA with outputs", "", 0);
  auto k = std::make_shared<Kernel>();
  k->is_scan = lambda->src(0)->op == Op::GET;
  s.kernel = std::move(k);
  s.name = device.name();
  return s;
}

std::shared_ptr<Executable> compile(Device& device, const UOp& lambda) {
  // Structures that differ can give one text (only shapes of views differ, say).
  static auto* known = new Known<std::pair<const Device*, std::string>, LoadedCode>;
  const auto start = std::chrono::steady_clock::now();
  Source source = source_of(device, lambda);
  const auto key = std::make_pair(static_cast<const Device*>(&device), source.name);
  std::shared_ptr<LoadedCode> code = known->find(key);
  if (code) {
    memory_hits.fetch_add(1, std::memory_order_relaxed);
  } else {
    code = make_code(device, source, lambda);
    if (code) known->insert(key, code);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return std::make_shared<Executable>(std::move(source), lambda, std::move(code), took.count());
}

std::shared_ptr<Executable> executable(Device& device, const UOp& lambda) {
  // An Executable holds its LAMBDA: as long as it lives the address is no other node's.
  static auto* known = new Known<std::pair<const Device*, const Node*>, Executable>;
  const auto key =
      std::make_pair(static_cast<const Device*>(&device), static_cast<const Node*>(lambda.get()));
  if (auto ready = known->find(key)) {
    memory_hits.fetch_add(1, std::memory_order_relaxed);
    return ready;
  }
  std::shared_ptr<Executable> made = compile(device, lambda);
  known->insert(key, made);
  return made;
}

StorageRef in_memory(const StorageRef& value, Memory& memory) {
  if (&value->memory() == &memory) return value;
  Storage*& elsewhere = StorageAccess::elsewhere(*value);
  if (elsewhere && &elsewhere->memory() == &memory) return StorageRef::share(elsewhere);
  StorageRef copy = StorageRef::allocate(value->bytes, memory);
  if (value->bytes) std::memcpy(HostWrite(*copy).data(), HostRead(*value).data(), value->bytes);
  StorageRef::adopt(std::exchange(elsewhere, StorageRef(copy).detach()));
  return copy;
}

void copy_bytes(const Storage& to, std::size_t to_offset, const Storage& from, std::size_t from_offset,
                std::size_t bytes) {
  Memory& memory = to.memory();
  memory.copy(StorageAccess::address(to), to_offset, address_in(memory, from), from_offset, bytes);
}

KernelCounts kernel_counts() {
  return {.memory_hits = memory_hits.load(std::memory_order_relaxed),
          .disk_hits = disk_hits.load(std::memory_order_relaxed),
          .compiled = compiled.load(std::memory_order_relaxed),
          .rejected = kernels_rejected()};
}
std::int64_t kernels_compiled() { return compiled.load(std::memory_order_relaxed); }

Device& device(std::string_view name) {
  const std::string_view known = device_name(device_number(name));
  for (const DeviceRow& r : rows())
    if (r.name == known) return r.get();
  if (!known.empty())
    throw Error("device",
                "no device \"" + std::string(name) + "\": this build has none (cmake option TINYPHYS_OPENCL)",
                "", 0);
  throw Error("device", "no device \"" + std::string(name) + "\"; there are: " + std::string(kDeviceNames),
              "", 0);
}
bool add_device(std::string_view name, Device& (*get)()) {
  rows().push_back({name, get});
  return true;
}

}  // namespace tinyphys
