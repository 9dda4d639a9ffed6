#include "cache/store.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <dirent.h>
#include <fcntl.h>
#include <map>
#include <random>
#include <sys/resource.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "support/debug.hpp"
#include "support/env.hpp"

namespace tinyphys {
namespace {

constexpr std::string_view kUnfinished = ".unfinished-";
// A file takes milliseconds to write: older ones have lost their writer.
constexpr double kAbandonedSeconds = 600;

std::atomic<std::int64_t> rejected{0};

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd) {
    close();
    fd_ = fd;
  }
  // False with errno: a full disk may show only here.
  bool close() { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string file_of(const std::string& key) { return key + std::string(kKernelSuffix); }

// Each folder of the path that is missing, for its owner alone.
int make_folders(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (mkdir(part.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
      // Parts that are there may forbid it and need not allow it.
      struct stat s;
      const int error = errno;
      if (stat(part.c_str(), &s) != 0) return error;
    }
    if (end == std::string::npos) return 0;
  }
}

// From the start, until `bytes` are read or the file ends. Returns 0 or errno.
int read_all(int fd, std::size_t bytes, std::string& out) {
  out.resize(bytes);
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(fd, out.data() + done, bytes - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  out.resize(done);
  return 0;
}

int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return 0;
}

std::string random_name() {
  std::random_device random;
  return fmt::format("{}{:08x}{:08x}", kUnfinished, random(), random());
}

std::string error_text(int error) { return std::generic_category().message(error); }

}  // namespace

std::unique_ptr<KernelStore> KernelStore::open(const std::string& folder, const Options& options,
                                               Refusal& refusal) {
  refusal = {};
  if (options.make) {
    if (const int error = make_folders(folder)) {
      refusal.why = "cannot be made: " + error_text(error);
      return nullptr;
    }
  }
  Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat s;
  if (!fd || fstat(fd.get(), &s) != 0) {
    refusal.why = "cannot be opened: " + error_text(errno);
    return nullptr;
  }
  refusal.unsafe = true;
  if (s.st_uid != geteuid()) {
    refusal.why = fmt::format("belongs to user {}, not to {}, who runs this", s.st_uid, geteuid());
    return nullptr;
  }
  if (s.st_mode & (S_IWGRP | S_IWOTH)) {
    refusal.why =
        fmt::format("can be written by others (mode {:04o}); chmod 700 makes it safe", s.st_mode & 07777);
    return nullptr;
  }
  refusal.unsafe = false;
  return std::unique_ptr<KernelStore>(new KernelStore(folder, fd.release(), options.max_bytes));
}

KernelStore::~KernelStore() { close(fd_); }

// One warning in all, whatever happens how often.
void KernelStore::trouble(std::string_view what, int error) const {
  warn_once("kernel cache " + folder_,
            fmt::format("kernel cache {}: {}: {}; kernels that cannot be kept are compiled again", folder_,
                        what, error_text(error)));
}

std::optional<std::string> KernelStore::load(const Hash128& key, const KeyFields& fields,
                                             std::string_view source) {
  const std::string hex = key.hex(), file = file_of(hex);
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  Descriptor fd(openat(fd_, file.c_str(), O_RDWR | kFlags));
  const bool writable = static_cast<bool>(fd);
  if (!fd && (errno == EACCES || errno == EROFS || errno == EPERM))
    fd.reset(openat(fd_, file.c_str(), O_RDONLY | kFlags));
  if (!fd) {
    if (errno != ENOENT) trouble("cannot open " + file, errno);
    return {};
  }
  struct stat s;
  if (fstat(fd.get(), &s) != 0) {
    trouble("cannot read " + file, errno);
    return {};
  }
  const auto wrong = [&](const std::string& why) -> std::optional<std::string> {
    reject_file(file, why);
    return {};
  };
  if (!S_ISREG(s.st_mode)) return wrong("it is no regular file");
  // The first line says how long the file should be, before memory is taken for how long it is.
  std::string bytes;
  KernelHeader header;
  KernelFile kernel;
  int error = read_all(fd.get(), std::min(static_cast<std::size_t>(s.st_size), kHeaderBytes), bytes);
  if (error == 0) {
    if (const std::string problem = decode_header(bytes, header); !problem.empty()) return wrong(problem);
    if (header.format == kKernelFormat && header.bytes != s.st_size)
      return wrong(fmt::format("it has {} bytes, not the {} that it says", s.st_size, header.bytes));
    error = read_all(fd.get(), static_cast<std::size_t>(std::max(header.bytes, std::int64_t{0})), bytes);
  }
  if (error != 0) {
    trouble("cannot read " + file, error);
    return {};
  }
  if (const std::string problem = decode(bytes, header, kernel); !problem.empty()) return wrong(problem);
  // The whole of what it was made for is compared, not only the hash of it.
  if (kernel.fields != fields)
    return wrong("it was made for another key: " + first_difference(kernel.fields, fields));
  if (kernel.source != source || header.key != hex) return wrong("it was made of another source");
  if (writable) {
    // Marks the time of use too. Of two processes at one moment, one may go uncounted.
    const std::string hits = hits_text(header.hits + 1);
    [[maybe_unused]] const ssize_t told = pwrite(fd.get(), hits.data(), hits.size(), kHitsAt);
  }
  return std::move(kernel.payload);
}

std::string KernelStore::write(const std::string& file, const std::string& bytes, int& error) {
  // Beyond this limit a write does not fail: the process is ended by SIGXFSZ.
  rlimit most;
  if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur != RLIM_INFINITY && bytes.size() > most.rlim_cur) {
    error = EFBIG;
    return "cannot write";
  }
  const std::string unfinished = random_name();
  Descriptor fd(openat(fd_, unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!fd) {
    error = errno;
    return "cannot write";
  }
  error = write_all(fd.get(), bytes);
  if (!fd.close() && error == 0) error = errno;
  if (error == 0 && renameat(fd_, unfinished.c_str(), fd_, file.c_str()) == 0) return {};
  if (error == 0) error = errno;
  unlinkat(fd_, unfinished.c_str(), 0);
  return "cannot write";
}

void KernelStore::publish(const KernelFile& kernel) {
  const std::string bytes = encode(kernel, static_cast<std::int64_t>(seconds_now()));
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (size > max_bytes_) return;
  int error = 0;
  if (const std::string what = write(file_of(kernel_key(kernel.fields, kernel.source).hex()), bytes, error);
      !what.empty())
    return trouble(what, error);
  // The folder is counted once, and again when so much was added that other processes may have added as much.
  constexpr std::int64_t kCountAgain = 16;
  std::lock_guard lock(mutex_);
  uncounted_ += size;
  if (counted_ >= 0 && counted_ + uncounted_ <= max_bytes_ && uncounted_ <= max_bytes_ / kCountAgain) return;
  // A tenth more than need be, so that a full cache is not walked for each kernel.
  counted_ = sweep(max_bytes_, max_bytes_ - max_bytes_ / 10, {});
  uncounted_ = 0;
}

void KernelStore::reject(const Hash128& key, std::string_view why) { reject_file(file_of(key.hex()), why); }

void KernelStore::reject_file(const std::string& file, std::string_view why) {
  rejected.fetch_add(1, std::memory_order_relaxed);
  if (unlinkat(fd_, file.c_str(), 0) != 0 && errno != ENOENT) trouble("cannot delete " + file, errno);
  debug_print(1, "cache", fmt::format("{} is deleted: {}", file, why));
}

std::string KernelStore::explain_miss(const std::string& name, const KeyFields& fields) {
  std::optional<KernelFile> nearest;
  std::size_t agree = 0;
  const std::vector<StoredKernel> all = list();
  for (const StoredKernel& stored : all) {
    if (stored.unfinished) continue;
    KernelHeader header;
    KernelFile kernel;
    try {
      if (!decode(read(stored.file), header, kernel).empty() || kernel.name != name) continue;
    } catch (const std::system_error&) {
      continue;  // deleted by now
    }
    const auto differs =
        std::mismatch(kernel.fields.begin(), kernel.fields.end(), fields.begin(), fields.end()).first;
    const auto same = static_cast<std::size_t>(differs - kernel.fields.begin());
    if (nearest && same <= agree) continue;
    nearest = std::move(kernel);
    agree = same;
  }
  if (!nearest) return fmt::format("none of {} files is of this kernel", all.size());
  const std::string difference = first_difference(nearest->fields, fields);
  // It was written since it was looked for, or made under the same name from another text.
  if (difference.empty()) return "there is one with the same fields";
  return fmt::format("of {}, {}", kernel_key(nearest->fields, nearest->source).hex(), difference);
}

std::vector<StoredKernel> KernelStore::list() const {
  std::vector<StoredKernel> out;
  DIR* folder = nullptr;
  if (Descriptor fd(openat(fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      fd && (folder = fdopendir(fd.get())))
    fd.release();
  if (!folder) return out;
  while (const dirent* entry = readdir(folder)) {
    const std::string_view name = entry->d_name;
    StoredKernel k{.file = std::string(name), .unfinished = name.starts_with(kUnfinished)};
    struct stat s;
    if ((!k.unfinished && !name.ends_with(kKernelSuffix)) ||
        fstatat(fd_, entry->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(s.st_mode))
      continue;
    k.bytes = s.st_size;
    k.used = static_cast<double>(s.st_mtim.tv_sec) + 1e-9 * static_cast<double>(s.st_mtim.tv_nsec);
    out.push_back(std::move(k));
  }
  closedir(folder);
  return out;
}

std::string KernelStore::read(const std::string& file) const {
  const Descriptor fd(openat(fd_, file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat s;
  std::string bytes;
  int error = 0;
  if (!fd || fstat(fd.get(), &s) != 0) error = errno;
  if (error == 0) error = read_all(fd.get(), static_cast<std::size_t>(s.st_size), bytes);
  if (error != 0) throw std::system_error(error, std::generic_category(), folder_ + "/" + file);
  return bytes;
}

bool KernelStore::remove(const std::string& file) {
  if (unlinkat(fd_, file.c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  throw std::system_error(errno, std::generic_category(), folder_ + "/" + file);
}

std::int64_t KernelStore::prune(std::int64_t max_bytes,
                                const std::function<void(const StoredKernel&)>& gone) {
  return sweep(max_bytes, max_bytes, gone);
}

std::int64_t KernelStore::sweep(std::int64_t most, std::int64_t down_to,
                                const std::function<void(const StoredKernel&)>& gone) {
  std::vector<StoredKernel> all = list();
  std::int64_t total = 0;
  for (const StoredKernel& k : all) total += k.bytes;
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.used < b.used; });
  const bool too_much = total > most;
  const double now = seconds_now();
  for (const StoredKernel& k : all) {
    if (k.unfinished ? now - k.used < kAbandonedSeconds : !too_much || total <= down_to) continue;
    if (unlinkat(fd_, k.file.c_str(), 0) != 0 && errno != ENOENT) {
      trouble("cannot delete " + k.file, errno);
      continue;
    }
    total -= k.bytes;
    if (gone) gone(k);
  }
  return total;
}

KernelStore* kernel_store() {
  if (!env::cache()) return nullptr;
  static auto* mutex = new std::mutex;
  static auto* stores = new std::map<std::pair<std::string, std::int64_t>, std::unique_ptr<KernelStore>>;
  const std::string folder = env::cache_dir();
  const std::int64_t max_bytes = env::cache_max_bytes();
  std::lock_guard lock(*mutex);
  const auto [it, is_new] = stores->try_emplace({folder, max_bytes});
  if (!is_new) return it->second.get();
  KernelStore::Refusal refusal;
  if (folder.empty())
    refusal.why = "has no folder: neither TINYPHYS_CACHE_DIR nor XDG_CACHE_HOME nor HOME is set";
  else
    it->second = KernelStore::open(folder, {.max_bytes = max_bytes}, refusal);
  if (it->second) return it->second.get();
  const std::string said =
      fmt::format("kernel cache {} {}; kernels are compiled again in each process", folder, refusal.why);
  // Services and containers have no home, or none that they can write to.
  if (env::cache_dir_is_default() && !refusal.unsafe)
    debug_print(1, "cache", said);
  else
    warn_once("kernel cache " + folder, said + " (TINYPHYS_CACHE=0 says that this is meant)");
  return nullptr;
}

std::int64_t kernels_rejected() { return rejected.load(std::memory_order_relaxed); }

}  // namespace tinyphys
