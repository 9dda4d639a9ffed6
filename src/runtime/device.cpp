#include "runtime/device.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tinyphys/error.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

std::atomic<std::int64_t> compiled{0};

}  // namespace

Executable::Executable(const Binary& b)
    : name_(b.name), text_(b.text), kernel_(b.kernel), lambda_(b.lambda), seconds_(b.seconds) {}

double Executable::cost_ns() const {
  double total = 0;
  for (const Kernel::Part& p : kernel_->parts) total += p.cost_ns;
  return total;
}

StepRange Executable::steps(const LaunchArguments& a) const {
  if (!is_scan() || a.steps.last >= 0) return a.steps;
  const Node* n = ScanView(lambda_->src(0)->src(0)).steps();
  if (n->op == Op::PARAM) return {a.steps.first, a.scalars[static_cast<std::size_t>(n->arg(0))]};
  return {a.steps.first, const_int(n)};
}

void* Device::alloc(std::size_t bytes) {
  constexpr std::size_t kAlign = 64;
  void* p = std::aligned_alloc(kAlign, (bytes / kAlign + 1) * kAlign);
  if (!p) throw Error("allocate", "out of memory: " + std::to_string(bytes) + " bytes asked for", "", 0);
  return p;
}
void Device::free(void* p) { std::free(p); }
void Device::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes) std::memcpy(to, from, bytes);
}

std::shared_ptr<Executable> executable(Device& device, const UOp& lambda) {
  struct Table {
    std::mutex mutex;
    // An Executable holds its LAMBDA: as long as it lives the address is no other node's.
    std::map<std::pair<const Device*, const Node*>, std::weak_ptr<Executable>> known;
    std::size_t sweep_at = 1024;
  };
  static Table* table = new Table;  // leaked on purpose, as the devices
  const auto key =
      std::make_pair(static_cast<const Device*>(&device), static_cast<const Node*>(lambda.get()));
  {
    std::lock_guard lock(table->mutex);
    if (const auto it = table->known.find(key); it != table->known.end())
      if (auto ready = it->second.lock()) return ready;
  }
  std::shared_ptr<Executable> made = device.compile(lambda);
  std::lock_guard lock(table->mutex);
  table->known[key] = made;
  if (table->known.size() >= table->sweep_at) {
    std::erase_if(table->known, [](const auto& entry) { return entry.second.expired(); });
    table->sweep_at = std::max<std::size_t>(1024, 2 * table->known.size());
  }
  return made;
}

std::int64_t kernels_compiled() { return compiled.load(std::memory_order_relaxed); }
void count_compiled_kernel() { compiled.fetch_add(1, std::memory_order_relaxed); }

Device& device(std::string_view name) {
  if (name == "cpu") return cpu_device();
  if (name == "interp") return interp_device();
  if (name == "null") return null_device();
  throw Error("device", "no device \"" + std::string(name) + "\"; there are cpu, interp and null", "", 0);
}

}  // namespace tinyphys
