// Memory belongs to a device: what lies where, that the host reaches it by a mapping only, and that it is freed where it
// came from.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "backend/kernel_helpers.hpp"
#include "runtime/address.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/history.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

// Of the devices that are there.
std::vector<std::string> device_names() {
  std::vector<std::string> out;
  for (const DeviceInfo& d : devices())
    if (d.available) out.push_back(d.name);
  return out;
}

const Memory& memory_of(const Tensor& t) {
  const UOp u = uop(t);
  REQUIRE(u);
  return storage(u.get())->memory();
}

// Whether a process that does this dies of it.
template <class F> bool is_fatal(const F& f) {
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = fileno(std::fopen("/dev/null", "w"));
    dup2(nowhere, STDERR_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    for (const int signal : {SIGSEGV, SIGBUS, SIGABRT}) std::signal(signal, SIG_DFL);
    f();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The host's, counted.
class CountedMemory final : public Memory {
 public:
  void* alloc(std::size_t bytes) override {
    ++taken;
    return host_memory().alloc(bytes);
  }
  void free(void* address, std::size_t bytes) noexcept override {
    ++freed;
    host_memory().free(address, bytes);
  }
  void copy(void* to, std::size_t at, const void* from, std::size_t from_at, std::size_t n) override {
    host_memory().copy(to, at, from, from_at, n);
  }
  void* map(void* address, std::size_t, MapFor) override {
    ++mapped;
    return address;
  }
  void unmap(void*, void*, std::size_t, MapFor) noexcept override { --mapped; }
  int taken = 0, freed = 0, mapped = 0;
};

}  // namespace

TEST_CASE("every name is a device that knows it, and says what it is") {
  CHECK(device_names().size() >= 4);
  for (const std::string& name : device_names()) {
    CAPTURE(name);
    Device& d = device(name);
    CHECK(d.name() == name);
    CHECK(d.properties().target.vector_bytes >= 8);
    CHECK(d.properties().work_group >= 1);
    CHECK(d.properties().compute_units >= 1);
    CHECK_FALSE(d.properties().description.empty());
  }
}

TEST_CASE("what is written into a memory is read from it: mapped, copied, updated in part") {
  for (const std::string& name : device_names()) {
    CAPTURE(name);
    Memory& memory = device(name).memory();
    for (const std::size_t n : {1, 8, 63, 64, 4096, 100'000}) {
      CAPTURE(n);
      const StorageRef a = StorageRef::allocate(n, memory), b = StorageRef::allocate(2 * n, memory);
      std::vector<unsigned char> bytes(n);
      for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<unsigned char>(i * 7 + 3);
      std::memcpy(HostWrite(*a).data(), bytes.data(), n);
      CHECK(std::memcmp(HostRead(*a).data(), bytes.data(), n) == 0);
      std::memset(HostWrite(*b).data(), 1, 2 * n);
      copy_bytes(*b, n, *a, 0, n);
      HostWrite(*b, MapFor::kUpdate).as<unsigned char>()[0] = 9;
      const HostRead all(*b);
      CHECK(all.as<unsigned char>()[0] == 9);
      CHECK((n == 1 || all.as<unsigned char>()[n - 1] == 1));
      CHECK(std::memcmp(all.as<unsigned char>() + n, bytes.data(), n) == 0);
    }
  }
}

TEST_CASE("a memory of its own traps whoever reaches for it without a mapping") {
  const StorageRef s = StorageRef::allocate(64, device("island").memory());
  std::memset(HostWrite(*s).data(), 5, 64);
  const auto* address = static_cast<const volatile char*>(StorageAccess::address(*s));
  CHECK_FALSE(is_fatal([] {}));
  CHECK(is_fatal([&] { (void)*address; }));
  CHECK(is_fatal([&] { (void)static_cast<const volatile char*>(HostRead(*s).data())[0]; }) == false);
  CHECK(is_fatal([&] {  // after the mapping has ended
    const volatile char* late = HostRead(*s).as<char>();
    (void)*late;
  }));
  CHECK(is_fatal([&] {  // what was mapped to be read
    const HostRead r(*s);
    const_cast<volatile char*>(r.as<char>())[0] = 1;
  }));
  CHECK(is_fatal([&] {  // beyond the end
    const HostRead r(*s);
    (void)static_cast<const volatile char*>(r.data())[64];
  }));
  CHECK_THROWS_WITH_AS((void)address_in(host_memory(), *s), doctest::Contains("memory of the device"), Error);
}

TEST_CASE("values stay on the device that made them, and are brought to the one that needs them once") {
  const Tensor x = Tensor::linspace(0.0, 1.0, 5000).realize().clone();  // given by the host
  CHECK(&memory_of(x) == &host_memory());
  Memory& island = device("island").memory();
  const auto on = [](const char* name, const Tensor& t) {
    const env::ScopedOverride scope("TINYPHYS_DEVICE", name);
    return t.realize();
  };
  const Tensor y = on("island", x * 2.0 + 1.0);
  CHECK(&memory_of(y) == &island);
  const std::int64_t before = live_bytes();
  const Tensor z = on("island", x * y);
  CHECK(live_bytes() == before + 40'000);  // x was there already
  const Tensor w = on("cpu", z - y), v = on("interp", z - y * 1.0), u = on("island", w + v + z);
  CHECK(&memory_of(w) == &host_memory());
  CHECK(&memory_of(v) == &host_memory());
  const auto xs = x.to_vector<double>(), us = u.to_vector<double>();
  bool right = true;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const double yi = xs[i] * 2.0 + 1.0, zi = xs[i] * yi;
    right &= us[i] == (zi - yi) + (zi - yi) + zi;
  }
  CHECK(right);
}

TEST_CASE("a value is freed where it came from, also by what lets go of the past") {
  static CountedMemory memory;
  {
    StorageRef bytes = StorageRef::allocate(800, memory);
    std::memset(HostWrite(*bytes).data(), 0, 800);
    Tensor x = tensor(buffer(DType::kFloat64, Dims{100}, std::move(bytes)));
    for (int i = 0; i < 3; ++i) x = (x + 1.0).realize();  // lets go of the first value
    CHECK(x.to_vector<double>()[99] == 3.0);
    Tensor last = (x * 2.0).realize();
    x = Tensor();
    last = (last + 1.0).realize();
    CHECK(memory.freed == memory.taken);
  }
  CHECK(memory.taken == 1);
  CHECK(memory.freed == 1);
  CHECK(memory.mapped == 0);
}
