// The CPU with a memory of its own, as a graphics card has: for tests. Its addresses are no pointers, so that whoever
// follows one without mapping it is trapped; a mapping is a copy that is gone after unmap, and what is mapped to be read
// cannot be written.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_set>

#include "runtime/cpu/cpu_device.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

// Makes an address that the processor does not accept (not canonical) of one that it does.
constexpr std::uintptr_t kOffset = std::uintptr_t{1} << 62;

char* pointer(const void* address) {
  return reinterpret_cast<char*>(reinterpret_cast<std::uintptr_t>(address) ^ kOffset);
}

// Mapped bytes end before a page that nobody may touch.
struct Pages {
  static constexpr std::size_t kAlign = 64;
  explicit Pages(std::size_t bytes)
      : page(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        aligned((std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign),
        whole((aligned + page - 1) / page * page) {}
  std::size_t page, aligned, whole;
};

class IslandMemory final : public Memory {
 public:
  void* alloc(std::size_t bytes) override {
    void* p = host_memory().alloc(bytes);
    if (!p) return nullptr;
    const std::lock_guard lock(mutex_);
    live_.insert(p);
    return pointer(p);
  }
  void free(void* address, std::size_t bytes) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      live_.erase(pointer(address));
    }
    host_memory().free(pointer(address), bytes);
  }
  void copy(void* to, std::size_t to_offset, const void* from, std::size_t from_offset,
            std::size_t bytes) override {
    host_memory().copy(pointer(to), to_offset, pointer(from), from_offset, bytes);
  }
  void* map(void* address, std::size_t bytes, MapFor access) override {
    const Pages pages(bytes);
    void* m =
        mmap(nullptr, pages.whole + pages.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
      throw Error("map", "out of memory: " + std::to_string(bytes) + " bytes asked for", "", 0);
    auto* first = static_cast<char*>(m);
    char* mapped = first + pages.whole - pages.aligned;
    if (access == MapFor::kWrite)
      std::memset(mapped, 0xA5, bytes);  // what is not written shows
    else
      std::memcpy(mapped, pointer(address), bytes);
    mprotect(first + pages.whole, pages.page, PROT_NONE);
    if (access == MapFor::kRead) mprotect(first, pages.whole, PROT_READ);
    return mapped;
  }
  void unmap(void* address, void* mapped, std::size_t bytes, MapFor access) noexcept override {
    const Pages pages(bytes);
    if (access != MapFor::kRead) std::memcpy(pointer(address), mapped, bytes);
    munmap(static_cast<char*>(mapped) + pages.aligned - pages.whole, pages.whole + pages.page);
  }

 private:
  // As a driver knows its allocations. Who looks for leaks finds no pointer to them elsewhere.
  std::unordered_set<void*> live_;
  std::mutex mutex_;
};

[[maybe_unused]] const bool added = add_device("island", []() -> Device& {
  // Leaked on purpose, as the cpu and the host's memory.
  static Device* d = new CpuDevice("island", *new IslandMemory, kOffset);
  return *d;
});

}  // namespace
}  // namespace tinyphys
