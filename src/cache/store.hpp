// Compiled kernels on disk: one file each, in one folder that only its owner can write to, since what lies there is run.
// No index: the folder is the truth. A file appears whole, by a rename, and is verified each time it is read. What is
// wrong with a file's contents deletes it; an error of reading deletes nothing. Nothing here fails a computation: what
// cannot be kept is compiled again, and that is told once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/kernel_file.hpp"

namespace tinyphys {

// A file of the folder, by its name and first line.
struct StoredKernel {
  std::string file;         // within the folder
  std::int64_t bytes = 0;   // on disk
  double used = 0;          // when it was last used, in seconds since 1970
  bool unfinished = false;  // what a process that was killed left, or one is writing now
};

class KernelStore {
 public:
  struct Options {
    std::int64_t max_bytes = std::int64_t{1} << 30;
    bool make = true;  // the folder where there is none
  };
  // Null when the folder cannot be used, and `why` says so: it is not ours, or others can write to it, or it cannot be
  // made; `unsafe` tells the first two from the last.
  struct Refusal {
    std::string why;
    bool unsafe = false;
  };
  static std::unique_ptr<KernelStore> open(const std::string& folder, const Options& options,
                                           Refusal& refusal);
  ~KernelStore();
  KernelStore(const KernelStore&) = delete;
  KernelStore& operator=(const KernelStore&) = delete;

  const std::string& folder() const { return folder_; }

  // The payload of the kernel with this key, fields and source; none where there is no such file, or none to be trusted.
  std::optional<std::string> load(const Hash128& key, const KeyFields& fields, std::string_view source);
  // Writes it, and lets the least recently used files go when all take more than max_bytes.
  void publish(const KernelFile& kernel);
  // Deletes a file whose payload the device could not use, and counts it.
  void reject(const Hash128& key, std::string_view why);
  // Why there is no file: in words, from the file of the same kernel whose fields agree longest.
  std::string explain_miss(const std::string& name, const KeyFields& fields);

  // For tools. All files that are kernels or were to become one, in no order.
  std::vector<StoredKernel> list() const;
  // The contents; throws std::system_error.
  std::string read(const std::string& file) const;
  // False when it was not there.
  bool remove(const std::string& file);
  // Deletes the files used longest ago until all take no more than max_bytes, and unfinished files that nobody is
  // writing any more; calls `gone` for each. Returns the bytes that are left.
  std::int64_t prune(std::int64_t max_bytes, const std::function<void(const StoredKernel&)>& gone = {});

 private:
  KernelStore(std::string folder, int fd, std::int64_t max_bytes)
      : folder_(std::move(folder)), fd_(fd), max_bytes_(max_bytes) {}
  // Where all take more than `most`, deletes down to `down_to`.
  std::int64_t sweep(std::int64_t most, std::int64_t down_to,
                     const std::function<void(const StoredKernel&)>& gone);
  void reject_file(const std::string& file, std::string_view why);
  void trouble(std::string_view what, int error) const;
  std::string write(const std::string& file, const std::string& bytes, int& error);

  std::string folder_;
  int fd_;  // of the folder that was checked: its path may lead elsewhere by now
  std::int64_t max_bytes_;
  std::mutex mutex_;
  std::int64_t counted_ = -1;   // bytes in the folder when it was last counted; -1: never
  std::int64_t uncounted_ = 0;  // bytes added since
};

// Where the environment says (TINYPHYS_CACHE, TINYPHYS_CACHE_DIR, TINYPHYS_CACHE_MAXSIZE); null: there is none. Lives as
// long as the process.
KernelStore* kernel_store();

// Files that were deleted since the process began because their contents were not what they should be.
std::int64_t kernels_rejected();

}  // namespace tinyphys
