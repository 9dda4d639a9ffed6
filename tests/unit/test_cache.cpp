// The file of a compiled kernel, and the folder of such files: what is trusted, what is deleted, what is told.
#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "cache/kernel_file.hpp"
#include "cache/store.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "temporary_folder.hpp"

using namespace tinyphys;
using tinyphys::testing::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

bool contains(const std::string& text, const std::string& what) { return text.find(what) != text.npos; }
std::ptrdiff_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

KernelFile kernel(int number = 0, std::string cpu = "znver5") {
  return {
      .name = fmt::format("k_{:032x}", number),
      .fields = {{"backend", "llvm"}, {"compiler", "LLVM 19.1.7"}, {"cpu", std::move(cpu)}, {"options", ""}},
      .graph = "%0 = CONST float64[] 1\n",
      .source = fmt::format("define void @kernel_{}()\n", number),
      .payload = std::string("\0\177ELF\n\xff payload 12\n", 18)};
}
Hash128 key(const KernelFile& k) { return kernel_key(k.fields, k.source); }
std::string file_name(const KernelFile& k) { return key(k).hex() + std::string(kKernelSuffix); }

std::unique_ptr<KernelStore> opened(const std::string& folder, std::int64_t max_bytes = 1 << 20) {
  KernelStore::Refusal refusal;
  auto store = KernelStore::open(folder, {.max_bytes = max_bytes}, refusal);
  REQUIRE_MESSAGE(store, refusal.why);
  return store;
}
std::optional<std::string> load(KernelStore& store, const KernelFile& k) {
  return store.load(key(k), k.fields, k.source);
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}
long n_files(const std::string& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}
// `seconds` before now.
void set_used(const std::string& path, long seconds) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  now.tv_sec -= seconds;
  const timespec times[2] = {now, now};
  REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

// Restores an environment variable that is not ours.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  ~Variable() { set(old_ ? old_->c_str() : nullptr); }

 private:
  void set(const char* value) { value ? setenv(name_, value, 1) : unsetenv(name_); }
  const char* name_;
  std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("kernel file: what is written is read") {
  const KernelFile k = kernel();
  const std::string bytes = encode(k, 1234567890);
  KernelHeader header;
  KernelFile back;
  CHECK(decode(bytes, header, back) == "");
  CHECK(back.name == k.name);
  CHECK(back.fields == k.fields);
  CHECK(back.graph == k.graph);
  CHECK(back.source == k.source);
  CHECK(back.payload == k.payload);
  CHECK(header.format == kKernelFormat);
  CHECK(header.bytes == static_cast<std::int64_t>(bytes.size()));
  CHECK(header.key == key(k).hex());
  CHECK(header.hits == 0);
  CHECK(header.made == 1234567890);
  CHECK(bytes[kHeaderBytes - 1] == '\n');
  CHECK(bytes.find('\n') == kHeaderBytes - 1);
  CHECK(bytes.substr(kHitsAt - 5, 5 + kHitsDigits) == "hits " + hits_text(0));
  CHECK(hits_text(99'999'999'999).size() == kHitsDigits);
  // Two processes write the same but for the time.
  CHECK(encode(k, 5).substr(kHeaderBytes) == bytes.substr(kHeaderBytes));
}

TEST_CASE("kernel file: cut anywhere, lengthened, any byte changed: it says what is wrong") {
  const std::string bytes = encode(kernel(), 1234567890);
  KernelHeader header;
  KernelFile back;
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    CAPTURE(n);
    CHECK(decode(bytes.substr(0, n), header, back) != "");
  }
  CHECK(decode(bytes + "\n", header, back) != "");
  const auto told_only = [](std::size_t i) { return i >= kHitsAt && i + 1 < kHeaderBytes; };
  for (std::size_t i = 0; i < bytes.size(); ++i)
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string wrong = bytes;
      wrong[i] = static_cast<char>(wrong[i] ^ flip);
      CAPTURE(i);
      CAPTURE(flip);
      const std::string problem = decode(wrong, header, back);
      // The number of hits and the time are in no checksum; what is run does not depend on them.
      if (told_only(i))
        CHECK((problem.empty() ? back.payload == kernel().payload : true));
      else
        CHECK(problem != "");
    }
}

TEST_CASE("kernel file: a wrong version, and parts that lie under a right checksum") {
  KernelHeader header;
  KernelFile back;
  std::string other = encode(kernel(), 0);
  other.replace(16, 4, "   2");
  CHECK(decode_header(other, header) == "");
  CHECK(header.format == 2);
  CHECK(decode(other, header, back) == "it has format 2, not 1");

  // Who makes the checksum anew must still tell the truth about lengths and key.
  const auto signed_again = [](std::string bytes) {
    const std::string body = bytes.substr(kHeaderBytes);
    const std::string length = fmt::format("{:12}", bytes.size());
    bytes.replace(bytes.find(" bytes ") + 7, 12, length);
    bytes.replace(bytes.find(" check ") + 7, 32, hash_bytes(body).hex());
    return bytes;
  };
  const std::string whole = encode(kernel(), 0);
  CHECK(decode(signed_again(whole), header, back) == "");
  for (const auto& [from, to] : {std::pair{"name 34", "name 9999"},
                                 {"name 34", "name -1"},
                                 {"name 34", "name 99999999999999999999"},
                                 {"graph ", "garph "},
                                 {"payload 18", "payload 17"},
                                 {"payload 18", "payload 18 18"},
                                 {"field:cpu", "cpu"}}) {
    std::string bytes = whole;
    bytes.replace(bytes.find(from), std::string(from).size(), to);
    CAPTURE(to);
    CHECK(decode(signed_again(bytes), header, back) == "its parts are damaged");
  }
  std::string bytes = whole;
  bytes.replace(bytes.find("znver5"), 6, "znver4");
  CHECK(decode(signed_again(bytes), header, back) == "its key is not that of its contents");
}

TEST_CASE("key: every field and the source count, and where one ends") {
  const KernelFile k = kernel();
  const Hash128 base = key(k);
  CHECK(base == key(kernel()));
  for (std::size_t i = 0; i < k.fields.size(); ++i) {
    KernelFile other = k;
    other.fields[i].value += "x";
    CHECK(key(other) != base);
    CHECK(contains(first_difference(other.fields, k.fields), k.fields[i].name + " is "));
    other = k;
    other.fields.erase(other.fields.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK(key(other) != base);
    CHECK(first_difference(other.fields, k.fields) == k.fields[i].name + " is missing");
  }
  CHECK(first_difference(k.fields, k.fields) == "");
  KernelFile other = k;
  other.source += " ";
  CHECK(key(other) != base);
  CHECK(kernel_key({{"a", "b\nfield:c 1\nd"}}, "") != kernel_key({{"a", "b"}, {"c", "d"}}, ""));
  CHECK(kernel_key({{"a", "bc"}}, "d") != kernel_key({{"a", "b"}}, "cd"));
}

TEST_CASE("store: what is published is loaded, its hits are counted, its time of use is set") {
  const TemporaryFolder folder;
  const auto store = opened(folder / "a/b");
  const KernelFile k = kernel();
  CHECK_FALSE(load(*store, k));
  store->publish(k);
  CHECK(n_files(store->folder()) == 1);
  const std::string path = store->folder() + "/" + file_name(k);
  set_used(path, 1000);
  const double before = store->list()[0].used;
  CHECK(load(*store, k) == k.payload);
  CHECK(load(*opened(store->folder()), k) == k.payload);
  CHECK(store->list()[0].used > before + 900);
  KernelHeader header;
  KernelFile back;
  CHECK(decode(store->read(file_name(k)), header, back) == "");
  CHECK(header.hits == 2);
  struct stat s;
  REQUIRE(stat(store->folder().c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0700);
  REQUIRE(stat(path.c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0600);
  store->publish(kernel(1));
  CHECK(n_files(store->folder()) == 2);
}

TEST_CASE("store: what is wrong with a file deletes it and is counted") {
  const TemporaryFolder folder;
  const auto store = opened(folder.path());
  const KernelFile k = kernel();
  const std::string path = folder / file_name(k), whole = encode(k, 0);
  std::string flipped = whole, other_format = whole, wrong_payload = whole;
  flipped[flipped.size() - 5] ^= 1;
  other_format.replace(16, 4, "   2");
  for (const std::string& bytes :
       {std::string(), whole.substr(0, 10), whole.substr(0, kHeaderBytes), whole.substr(0, whole.size() - 1),
        whole + "x", flipped, other_format, std::string(1000, 'x'), encode(kernel(0, "znver4"), 0),
        encode(kernel(1), 0)}) {
    write_file(path, bytes);
    const std::int64_t before = kernels_rejected();
    const DebugCapture err;
    CAPTURE(bytes.substr(0, 60));
    CHECK_FALSE(load(*store, k));
    CHECK(kernels_rejected() == before + 1);
    CHECK_FALSE(fs::exists(path));
    CHECK(err.text().empty());  // told at level 1 only
  }
  write_file(path, encode(kernel(0, "znver4"), 0));
  const env::ScopedOverride level("TINYPHYS_DEBUG", "1");
  const DebugCapture err;
  CHECK_FALSE(load(*store, k));
  CHECK(contains(err.text(),
                 file_name(k) + " is deleted: it was made for another key: cpu is znver4, not znver5"));
  // What says that it is large costs no memory.
  write_file(path, whole);
  REQUIRE(truncate(path.c_str(), off_t{1} << 40) == 0);
  CHECK_FALSE(load(*store, k));
  CHECK_FALSE(fs::exists(path));
}

TEST_CASE("store: an error of reading deletes nothing and is told once") {
  const TemporaryFolder folder;
  const auto store = opened(folder.path());
  const KernelFile k = kernel(), linked = kernel(1);
  fs::create_directory(folder / file_name(k));
  write_file(folder / "elsewhere", encode(linked, 0));
  fs::create_symlink(folder / "elsewhere", folder / file_name(linked));
  const std::int64_t before = kernels_rejected();
  const DebugCapture err;
  CHECK_FALSE(load(*store, k));
  CHECK_FALSE(load(*store, k));
  CHECK_FALSE(load(*store, linked));  // a link may lead out of the folder
  store->publish(k);
  CHECK(kernels_rejected() == before);
  CHECK(fs::is_directory(folder / file_name(k)));
  CHECK(fs::is_symlink(folder / file_name(linked)));
  CHECK(n_files(folder.path()) == 3);  // nothing unfinished is left
  CHECK(lines(err.text()) == 1);
  CHECK(contains(err.text(), "[tinyphys warning] kernel cache " + folder.path() + ": cannot open "));
}

TEST_CASE(
    "store: the folder removed while running, files limited in size: told once, and the folder is left "
    "clean") {
  {
    const TemporaryFolder folder;
    const auto store = opened(folder / "cache");
    store->publish(kernel());
    fs::remove_all(folder / "cache");
    const DebugCapture err;
    for (int i = 0; i < 3; ++i) {
      CHECK_FALSE(load(*store, kernel(i)));
      store->publish(kernel(i));
    }
    CHECK(store->list().empty());
    CHECK(lines(err.text()) == 1);
    CHECK(contains(err.text(), "cannot write: No such file or directory"));
  }
  const TemporaryFolder folder;
  const auto store = opened(folder.path());
  const DebugCapture err;
  rlimit old;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
  const rlimit small{100, old.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  store->publish(kernel(0));  // a write beyond it would end the process
  store->publish(kernel(1));
  REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
  CHECK(lines(err.text()) == 1);
  CHECK(contains(err.text(), "cannot write: File too large"));
  CHECK(n_files(folder.path()) == 0);
  store->publish(kernel(2));
  CHECK(load(*store, kernel(2)) == kernel(2).payload);
}

TEST_CASE("store: a folder that others can write to, or of somebody else, is refused") {
  const TemporaryFolder folder;
  KernelStore::Refusal refusal;
  for (const mode_t mode : {0770U, 0702U, 0777U}) {
    REQUIRE(chmod(folder.path().c_str(), mode) == 0);
    CHECK_FALSE(KernelStore::open(folder.path(), {}, refusal));
    CHECK(refusal.unsafe);
    CHECK(contains(refusal.why, fmt::format("can be written by others (mode {:04o})", mode)));
  }
  REQUIRE(chmod(folder.path().c_str(), 0755) == 0);
  CHECK(KernelStore::open(folder.path(), {}, refusal));
  // "/" is root's; root itself can give a folder away.
  if (geteuid() == 0) REQUIRE(chown(folder.path().c_str(), 12345, 12345) == 0);
  CHECK_FALSE(KernelStore::open(geteuid() == 0 ? folder.path() : "/", {}, refusal));
  CHECK(refusal.unsafe);
  CHECK(contains(refusal.why, "belongs to user "));

  CHECK_FALSE(KernelStore::open("/proc/no/such", {}, refusal));
  CHECK_FALSE(refusal.unsafe);
  CHECK(contains(refusal.why, "cannot be made: "));
  write_file(folder / "file", "");
  CHECK_FALSE(KernelStore::open(folder / "file", {}, refusal));
  CHECK(contains(refusal.why, "cannot be opened: Not a directory"));
  CHECK_FALSE(KernelStore::open(folder / "none", {.make = false}, refusal));
  CHECK_FALSE(fs::exists(folder / "none"));
}

TEST_CASE("store: bounded, the least recently used go first; what nobody writes any more goes too") {
  const TemporaryFolder folder;
  const std::int64_t size = static_cast<std::int64_t>(encode(kernel(), 0).size());
  {
    const auto store = opened(folder.path());
    for (int i = 0; i < 10; ++i) {
      store->publish(kernel(i));
      set_used(folder / file_name(kernel(i)), 1000 - i);
    }
    CHECK(load(*store, kernel(0)));  // used now: the last to go
    write_file(folder / ".unfinished-old", "x");
    set_used(folder / ".unfinished-old", 3600);
    write_file(folder / ".unfinished-new", "x");
    std::vector<std::string> gone;
    const std::int64_t left =
        store->prune(8 * size + 1, [&](const StoredKernel& k) { gone.push_back(k.file); });
    CHECK(left == 8 * size + 1);
    REQUIRE(gone.size() == 3);
    CHECK(gone[0] == ".unfinished-old");
    CHECK(gone[1] == file_name(kernel(1)));
    CHECK(gone[2] == file_name(kernel(2)));
    CHECK(fs::exists(folder / ".unfinished-new"));
    write_file(folder / "README", "not ours: neither counted nor deleted");
  }
  // Publishing keeps the bound by itself; the newest file stays.
  const auto store = opened(folder.path(), 6 * size);
  store->publish(kernel(20));
  std::int64_t total = 0;
  for (const StoredKernel& k : store->list()) total += k.bytes;
  CHECK(total <= 6 * size);
  CHECK(load(*store, kernel(20)));
  CHECK(load(*store, kernel(0)));
  CHECK_FALSE(load(*store, kernel(3)));
  CHECK(fs::exists(folder / "README"));
  for (int i = 30; i < 60; ++i) {
    store->publish(kernel(i));
    total = 0;
    for (const StoredKernel& k : store->list()) total += k.bytes;
    CHECK(total <= 6 * size);
    CHECK(load(*store, kernel(i)));
  }
  // Larger than all there may be.
  const auto tiny = opened(folder.path(), 10);
  tiny->publish(kernel(99));
  CHECK_FALSE(load(*tiny, kernel(99)));
}

TEST_CASE("store: a miss names the first field that differs from the nearest file of the kernel") {
  const TemporaryFolder folder;
  const auto store = opened(folder.path());
  const KernelFile want = kernel();
  CHECK(store->explain_miss(want.name, want.fields) == "none of 0 files is of this kernel");
  store->publish(kernel(1));
  CHECK(store->explain_miss(want.name, want.fields) == "none of 1 files is of this kernel");
  KernelFile older = kernel();
  older.fields[1].value = "LLVM 18.1.8";
  older.fields[2].value = "znver4";
  store->publish(older);
  CHECK(store->explain_miss(want.name, want.fields) ==
        fmt::format("of {}, compiler is LLVM 18.1.8, not LLVM 19.1.7", key(older).hex()));
  store->publish(kernel(0, "znver4"));
  CHECK(store->explain_miss(want.name, want.fields) ==
        fmt::format("of {}, cpu is znver4, not znver5", key(kernel(0, "znver4")).hex()));
}

TEST_CASE("store: where the environment says") {
  const TemporaryFolder folder;
  const env::ScopedOverride on("TINYPHYS_CACHE", "1");
  {
    const env::ScopedOverride here("TINYPHYS_CACHE_DIR", folder / "one");
    const Variable xdg("XDG_CACHE_HOME", (folder / "xdg").c_str()), home("HOME", (folder / "home").c_str());
    REQUIRE(kernel_store());
    CHECK(kernel_store()->folder() == folder / "one");
    const env::ScopedOverride off("TINYPHYS_CACHE", "0");
    CHECK(kernel_store() == nullptr);
  }
  const env::ScopedOverride nowhere("TINYPHYS_CACHE_DIR", "");
  {
    const Variable xdg("XDG_CACHE_HOME", (folder / "xdg").c_str()), home("HOME", (folder / "home").c_str());
    REQUIRE(kernel_store());
    CHECK(kernel_store()->folder() == folder / "xdg/tinyphys");
  }
  {
    const Variable xdg("XDG_CACHE_HOME", "relative"), home("HOME", (folder / "home").c_str());
    REQUIRE(kernel_store());
    CHECK(kernel_store()->folder() == folder / "home/.cache/tinyphys");
  }
  // No home, or none that can be made, is a normal state; a folder that was named is not, and neither is an unsafe one.
  const DebugCapture err;
  for (const char* home : {static_cast<const char*>(nullptr), "/proc/no/home"}) {
    const Variable xdg("XDG_CACHE_HOME", nullptr), set("HOME", home);
    CHECK(kernel_store() == nullptr);
    CHECK(err.text() == "");
  }
  {
    const env::ScopedOverride named("TINYPHYS_CACHE_DIR", "/proc/no/folder");
    CHECK(kernel_store() == nullptr);
    CHECK(kernel_store() == nullptr);
  }
  CHECK(lines(err.text()) == 1);
  CHECK(contains(err.text(), "kernel cache /proc/no/folder cannot be made: "));
  fs::create_directories(folder / "unsafe/tinyphys");
  REQUIRE(chmod((folder / "unsafe/tinyphys").c_str(), 0777) == 0);
  const Variable xdg("XDG_CACHE_HOME", (folder / "unsafe").c_str());
  CHECK(kernel_store() == nullptr);
  CHECK(lines(err.text()) == 2);
  CHECK(contains(err.text(), "can be written by others"));
}

TEST_CASE("env: sizes") {
  const std::int64_t k = 1024;
  const auto size = [](const char* text) {
    const env::ScopedOverride set("TINYPHYS_CACHE_MAXSIZE", text);
    return env::cache_max_bytes();
  };
  const DebugCapture err;
  CHECK(size("") == k * k * k);
  CHECK(size("0") == 0);
  CHECK(size("12345") == 12345);
  CHECK(size("7K") == 7 * k);
  CHECK(size("512M") == 512 * k * k);
  CHECK(size("8388607T") == 8388607 * k * k * k * k);
  CHECK(err.text() == "");
  for (const char* wrong : {"8388608T", "M", "1m", "1.5G", "-1", "1GB", " 1"})
    CHECK(size(wrong) == k * k * k);
  CHECK(lines(err.text()) == 7);
}
