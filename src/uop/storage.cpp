#include "uop/storage.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <new>
#include <string>
#include <sys/mman.h>
#include <vector>

#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

std::atomic<std::int64_t> bytes_alive{0}, most_bytes_alive{0}, allocated{0};

// Large blocks that were freed, for the next ones of their size: the system takes its time to hand out fresh pages, several
// times that of writing to them. Under the address sanitizer none is kept, so that a use after free is seen.
class LargeBlocks {
 public:
  // malloc keeps smaller ones itself, and shares them with all else that the program allocates.
  static constexpr std::size_t kLarge = std::size_t{32} << 20;
#if defined(__SANITIZE_ADDRESS__)
  static constexpr bool kAsan = true;
#elif defined(__has_feature)
  static constexpr bool kAsan = __has_feature(address_sanitizer);
#else
  static constexpr bool kAsan = false;
#endif

  // Null when there is no memory, with all that was kept given back.
  void* take(std::size_t bytes) {
    const std::size_t need = size_of(bytes);
    {
      std::lock_guard lock(mutex_);
      const auto last =
          std::find_if(kept_.rbegin(), kept_.rend(), [&](const Block& b) { return b.bytes == need; });
      if (last != kept_.rend()) {
        void* address = last->address;
        total_ -= need;
        kept_.erase(std::next(last).base());
        return address;
      }
    }
    void* base = std::aligned_alloc(kPage, need);
    if (!base) {
      drop_to(0);
      base = std::aligned_alloc(kPage, need);
    }
    if (!base) return nullptr;
    madvise(base, need, MADV_HUGEPAGE);  // only advice
    void* address = static_cast<char*>(base) + kLine +
                    next_colour_.fetch_add(1, std::memory_order_relaxed) % kColours * kApart;
    base_of(address) = base;
    return address;
  }
  void give_back(void* address, std::size_t bytes) noexcept {
    try {
      std::lock_guard lock(mutex_);
      kept_.push_back({address, size_of(bytes)});
      total_ += kept_.back().bytes;
    } catch (const std::bad_alloc&) {
      std::free(base_of(address));
    }
    drop_to(kAsan ? 0 : kSpare + static_cast<std::size_t>(bytes_alive.load(std::memory_order_relaxed)));
  }

 private:
  static constexpr std::size_t kPage = std::size_t{2} << 20;
  // Blocks begin at different places of a page and of the sets of a cache: arrays that are walked through together would
  // push each other out of it.
  static constexpr std::size_t kLine = 64, kApart = 4096 + kLine, kColours = 16;
  // What is kept beside as much as is in use.
  static constexpr std::size_t kSpare = std::size_t{256} << 20;
  struct Block {
    void* address;
    std::size_t bytes;
  };
  static std::size_t size_of(std::size_t bytes) {
    return (bytes + kLine + kColours * kApart + kPage - 1) / kPage * kPage;
  }
  // Of what the system gave: noted in front of the block.
  static void*& base_of(void* address) { return static_cast<void**>(address)[-1]; }

  // Until so many bytes are kept: the oldest go.
  void drop_to(std::size_t bytes) noexcept {
    std::lock_guard lock(mutex_);
    while (total_ > bytes) {
      total_ -= kept_.front().bytes;
      std::free(base_of(kept_.front().address));
      kept_.erase(kept_.begin());
    }
  }

  std::mutex mutex_;
  std::vector<Block> kept_;  // the oldest first
  std::atomic<std::size_t> next_colour_{0};
  std::size_t total_ = 0;
};

class HostMemory final : public Memory {
 public:
  HostMemory() : Memory(true) {}
  void* alloc(std::size_t bytes) override {
    if (bytes >= LargeBlocks::kLarge) return large_.take(bytes);
    constexpr std::size_t kAlign = 64;
    return std::aligned_alloc(kAlign, (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign);
  }
  void free(void* address, std::size_t bytes) noexcept override {
    if (bytes >= LargeBlocks::kLarge)
      large_.give_back(address, bytes);
    else
      std::free(address);
  }
  void copy(void* to, std::size_t to_offset, const void* from, std::size_t from_offset,
            std::size_t bytes) override {
    if (bytes)
      std::memcpy(static_cast<char*>(to) + to_offset, static_cast<const char*>(from) + from_offset, bytes);
  }
  void* map(void* address, std::size_t, MapFor) override { return address; }
  void unmap(void*, void*, std::size_t, MapFor) noexcept override {}

 private:
  LargeBlocks large_;
};

}  // namespace

Memory& host_memory() {
  // Leaked on purpose: static objects may hold values.
  static auto* m = new HostMemory;
  return *m;
}

bool keeps_large_blocks() { return !LargeBlocks::kAsan; }

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
