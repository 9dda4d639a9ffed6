// The bytes of realized values, and where they are.
//
// A Storage is opaque: what is in it the host sees through a HostRead or HostWrite, and a device through src/runtime.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "support/hash.hpp"

namespace tinyphys {

struct Origin;  // how a value was made: the engine's record

enum class MapFor : std::uint8_t {
  kRead,
  kWrite,  // all of it is written anew
  kUpdate  // some of it is; the rest stays
};

// An address space: the host's, or a device's. What an address is only its Memory knows. Any thread may call at any time:
// a value is freed wherever its last handle goes.
class Memory {
 public:
  virtual ~Memory() = default;

  // Null when there is none left.
  virtual void* alloc(std::size_t bytes) = 0;
  virtual void free(void* address, std::size_t bytes) noexcept = 0;
  // Within this memory; the two do not overlap.
  virtual void copy(void* to, std::size_t to_offset, const void* from, std::size_t from_offset,
                    std::size_t bytes) = 0;
  // The bytes where the host can get at them until unmap, which brings back what was written.
  virtual void* map(void* address, std::size_t bytes, MapFor access) = 0;
  virtual void unmap(void* address, void* mapped, std::size_t bytes, MapFor access) noexcept = 0;

  // An address is the host's own, and mapping does nothing.
  bool is_host() const { return is_host_; }

 protected:
  explicit Memory(bool is_host = false) : is_host_(is_host) {}

 private:
  bool is_host_;
};

// 64-byte aligned. What the user gives is put there. Large blocks that are freed are kept for the next ones of their size,
// up to as many bytes as are in use and 256 MiB more.
Memory& host_memory();
bool keeps_large_blocks();  // false under the address sanitizer

// The bytes of one value. A node points to at most one; every handle of the node sees it.
class Storage {
 public:
  Storage(Memory& memory, std::size_t n_bytes);  // throws tp::Error when memory is short
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Memory& memory() const { return memory_; }

  // Of the bytes; read once. Under the ComputeLock.
  const Hash128& content() const;
  // Its bytes are about to be others: what was known of them is forgotten. Whoever writes to one again says so first.
  void rewrite();

  std::atomic<std::uint32_t> refs{1};
  const std::size_t bytes;
  std::shared_ptr<const Origin> origin;  // for explain(); null where there is nothing to tell

 private:
  friend struct StorageAccess;  // src/runtime
  friend class HostMap;
  Memory& memory_;
  void* address_;
  Storage* elsewhere_ = nullptr;  // the same bytes in another memory, once a device has asked for them
  mutable std::optional<Hash128> content_;
};

// In the whole process, of all values in any memory: bytes now, the most of them since the last reset, and how often memory
// was taken since the process began (tests, leak checks).
std::int64_t live_bytes();
std::int64_t peak_bytes();
void reset_peak_bytes();
std::int64_t allocations();

// Owning handle of a Storage.
class StorageRef {
 public:
  StorageRef() = default;
  static StorageRef allocate(std::size_t bytes, Memory& memory = host_memory()) {
    return StorageRef(new Storage(memory, bytes));
  }
  static StorageRef adopt(Storage* s) { return StorageRef(s); }
  static StorageRef share(Storage* s) {
    if (s) s->refs.fetch_add(1, std::memory_order_relaxed);
    return StorageRef(s);
  }
  StorageRef(const StorageRef& o) : s_(o.s_) {
    if (s_) s_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  StorageRef(StorageRef&& o) noexcept : s_(std::exchange(o.s_, nullptr)) {}
  StorageRef& operator=(StorageRef o) noexcept {
    std::swap(s_, o.s_);
    return *this;
  }
  ~StorageRef() {
    if (s_ && s_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete s_;
  }
  explicit operator bool() const { return s_ != nullptr; }
  Storage* get() const { return s_; }
  Storage* operator->() const { return s_; }
  Storage& operator*() const { return *s_; }
  Storage* detach() { return std::exchange(s_, nullptr); }

 private:
  explicit StorageRef(Storage* s) : s_(s) {}
  Storage* s_ = nullptr;
};

// The host's view of a Storage, for as long as it lives; the Storage must live longer.
class HostMap {
 public:
  HostMap(const HostMap&) = delete;
  HostMap& operator=(const HostMap&) = delete;

 protected:
  HostMap(const Storage& s, MapFor access)
      : storage_(&s),
        access_(access),
        data_(s.memory_.is_host() ? s.address_ : s.memory_.map(s.address_, s.bytes, access)) {}
  HostMap(HostMap&& o) noexcept
      : storage_(std::exchange(o.storage_, nullptr)), access_(o.access_), data_(o.data_) {}
  ~HostMap() {
    if (storage_ && !storage_->memory_.is_host())
      storage_->memory_.unmap(storage_->address_, data_, storage_->bytes, access_);
  }
  void* mapped() const { return data_; }

 private:
  const Storage* storage_;
  MapFor access_;
  void* data_;
};

class HostRead : public HostMap {
 public:
  explicit HostRead(const Storage& s) : HostMap(s, MapFor::kRead) {}
  const void* data() const { return mapped(); }
  template <class T> const T* as() const { return static_cast<const T*>(mapped()); }
};

class HostWrite : public HostMap {
 public:
  // Without MapFor::kUpdate all bytes have to be written.
  explicit HostWrite(const Storage& s, MapFor access = MapFor::kWrite) : HostMap(s, access) {}
  void* data() const { return mapped(); }
  template <class T> T* as() const { return static_cast<T*>(mapped()); }
};

}  // namespace tinyphys
