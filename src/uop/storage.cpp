#include "uop/storage.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

std::atomic<std::int64_t> bytes_alive{0}, most_bytes_alive{0}, allocated{0};

class HostMemory final : public Memory {
 public:
  HostMemory() : Memory(true) {}
  void* alloc(std::size_t bytes) override {
    constexpr std::size_t kAlign = 64;
    return std::aligned_alloc(kAlign, (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign);
  }
  void free(void* address, std::size_t) noexcept override { std::free(address); }
  void copy(void* to, std::size_t to_offset, const void* from, std::size_t from_offset,
            std::size_t bytes) override {
    if (bytes)
      std::memcpy(static_cast<char*>(to) + to_offset, static_cast<const char*>(from) + from_offset, bytes);
  }
  void* map(void* address, std::size_t, MapFor) override { return address; }
  void unmap(void*, void*, std::size_t, MapFor) noexcept override {}
};

}  // namespace

Memory& host_memory() {
  // Leaked on purpose: static objects may hold values.
  static auto* m = new HostMemory;
  return *m;
}

Storage::Storage(Memory& memory, std::size_t n_bytes) : bytes(n_bytes), memory_(memory) {
  if (n_bytes > (std::size_t{1} << 62))
    throw Error("allocate", "a value of " + std::to_string(n_bytes) + " bytes is too large", "", 0);
  address_ = memory_.alloc(n_bytes);
  if (!address_)
    throw Error("allocate", "out of memory: " + std::to_string(n_bytes) + " bytes asked for", "", 0);
  const auto size = static_cast<std::int64_t>(bytes);
  const std::int64_t now = bytes_alive.fetch_add(size, std::memory_order_relaxed) + size;
  std::int64_t most = most_bytes_alive.load(std::memory_order_relaxed);
  while (now > most && !most_bytes_alive.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
  allocated.fetch_add(1, std::memory_order_relaxed);
}
Storage::~Storage() {
  const StorageRef copy = StorageRef::adopt(elsewhere_);
  memory_.free(address_, bytes);
  bytes_alive.fetch_sub(static_cast<std::int64_t>(bytes), std::memory_order_relaxed);
}
const Hash128& Storage::content() const {
  if (!content_) content_ = content_hash(HostRead(*this).data(), bytes);
  return *content_;
}
void Storage::rewrite() {
  const StorageRef copy = StorageRef::adopt(std::exchange(elsewhere_, nullptr));
  content_.reset();
}
std::int64_t live_bytes() { return bytes_alive.load(std::memory_order_relaxed); }
std::int64_t peak_bytes() { return most_bytes_alive.load(std::memory_order_relaxed); }
void reset_peak_bytes() { most_bytes_alive.store(live_bytes(), std::memory_order_relaxed); }
std::int64_t allocations() { return allocated.load(std::memory_order_relaxed); }

}  // namespace tinyphys
