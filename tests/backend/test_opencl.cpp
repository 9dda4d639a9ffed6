// What an OpenCL device does beside what every device does. As the other tests of this folder these run on it with
// TINYPHYS_DEVICE=cl, and are skipped without.
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <sstream>
#include <unistd.h>

#include "backend/kernel_helpers.hpp"
#include "engine/canonical.hpp"
#include "random_graph.hpp"
#include "render/opencl_c.hpp"
#include "runtime/opencl/opencl_device.hpp"
#include "support/quad.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

doctest::skip needs_opencl() { return doctest::skip(env::device() != "cl"); }

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// What another process of this program prints, with these variables set and this case alone.
std::string run_again(const std::string& environment, const std::string& test_case) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  std::FILE* out = popen(
      ("env " + environment + " TINYPHYS_DEVICE=cpu '" + self + "' -ns -tc='" + test_case + "' 2>&1").c_str(),
      "r");
  REQUIRE(out);
  std::string text;
  std::array<char, 256> some{};
  while (const std::size_t n = std::fread(some.data(), 1, some.size(), out)) text.append(some.data(), n);
  pclose(out);
  return text;
}

// The program of these values on a device.
std::vector<Bytes> run_program(Device& d, const Canonical& c, const std::vector<UOp>& roots) {
  const auto e = compile(d, c.program);
  std::vector<StorageRef> held;
  std::vector<const Storage*> inputs, outputs, scratch;
  std::vector<std::int64_t> scalars;
  const auto hold = [&](StorageRef s) {
    held.push_back(std::move(s));
    return static_cast<const Storage*>(held.back().get());
  };
  for (const Argument& a : c.arguments) {
    inputs.push_back(a.data ? hold(in_memory(a.data, d.memory())) : nullptr);
    scalars.push_back(a.scalar);
  }
  for (const UOp& r : roots)
    outputs.push_back(
        hold(StorageRef::allocate(static_cast<std::size_t>(r->size()) * item_size(r->dtype), d.memory())));
  for (const std::int64_t bytes : e->kernel().scratch)
    scratch.push_back(hold(StorageRef::allocate(static_cast<std::size_t>(bytes), d.memory())));
  d.launch(*e, {outputs, inputs, scalars, scratch, {}});
  std::vector<Bytes> results;
  for (std::size_t o = 0; o < roots.size(); ++o) {
    results.emplace_back(roots[o]->dtype, shape_of(roots[o].get()));
    std::copy_n(HostRead(*outputs[o]).as<unsigned char>(), results[o].data.size(), results[o].data.begin());
  }
  return results;
}

UOp pair_sums(std::int64_t n, DType d) {
  const UOp q = tensor(0, {n}, d);
  const UOp way = sub(repeat_axis(q, 0, n), repeat_axis(q, 1, n));
  return sum(div(way, offset(mul(way, way), 0.25)), Dims{1});
}

}  // namespace

TEST_CASE("devices() says what an OpenCL device can, as its driver does" * needs_opencl()) {
  bool found = false;
  for (const DeviceInfo& d : devices()) {
    CAPTURE(d.name);
    CHECK_FALSE(d.description.empty());
    if (d.name != "cl") continue;
    found = true;
    CHECK(d.description.find("OpenCL") != std::string::npos);
    CHECK(d.compute_units >= 1);
    CHECK(d.vector_bytes >= 8);
    CHECK(d.memory > 0);
    CHECK(d.max_tensor > 0);
    CHECK(d.max_tensor <= d.memory);
    const std::string huge = message([&] {
      (void)StorageRef::allocate(static_cast<std::size_t>(d.max_tensor) + 4096, device("cl").memory());
    });
    CHECK(huge.find("holds in one piece") != std::string::npos);
  }
  CHECK(found);
  CHECK(&device("cl") == &device("cl:0"));
  CHECK(message([] { (void)device("cl:3"); }).find("OpenCL lists") != std::string::npos);
  CHECK(message([] { (void)Tensor::arange(3).to("cl:3"); }).find("[to] ") == 0);
}

TEST_CASE("a default device is chosen at run time" * needs_opencl()) {
  const env::ScopedOverride back("TINYPHYS_DEVICE", env::device());
  set_default_device("cl:0");
  const Tensor x = Tensor::arange(6) * 0.5;
  CHECK(x.device() == "cl");
  CHECK((x * x).to_vector<double>()[5] == 6.25);
  set_default_device("cpu");
  CHECK(x.device() == "cpu");
  CHECK(message([] {
          set_default_device("null");
        }).find("[set_default_device] the device null compiles and runs nothing") == 0);
  CHECK(message([] { set_default_device("gpu"); }).find("there are: cpu") != std::string::npos);
}

TEST_CASE("values move between the cpu and an OpenCL device, and gradients back" * needs_opencl()) {
  const Tensor x = Tensor::linspace(0.5, 2.0, 1001).realize();
  const Tensor there = x.to("cl");
  const Tensor y = (there * there / 3.0 - there).to("cpu") + x;
  const std::vector<double> got = y.to_vector<double>(), v = x.to_vector<double>();
  const std::vector<double> g = gradient((there * there).sum().to("cpu"), {x})[0].to_vector<double>();
  bool same = true;
  for (std::size_t i = 0; i < v.size(); ++i)
    same &= got[i] == (v[i] * v[i] / 3.0 - v[i]) + v[i] && g[i] == 2 * v[i];
  CHECK(same);
  CHECK(message([&] { (void)(there + x.to("cpu")); }).find("different devices, cl and cpu") !=
        std::string::npos);
}

TEST_CASE("launches are waited for by who looks: a long queue, then its last value" * needs_opencl()) {
  Device& d = device("cl");
  const auto e = compile(d, lambda({offset(tensor(0, {100'000}), 1.0)}, 1));
  StorageRef a = in_device(d, Bytes(DType::kFloat64, {100'000})),
             b = in_device(d, Bytes(DType::kFloat64, {100'000}));
  for (int i = 0; i < 200; ++i) {
    const Storage* in[] = {a.get()};
    const Storage* out[] = {b.get()};
    const std::int64_t scalars[] = {0};
    d.launch(*e, {out, in, scalars, {}, {}});
    std::swap(a, b);
  }
  StorageRef copy = StorageRef::allocate(800'000, d.memory());
  copy_bytes(*copy, 0, *a, 0, 800'000);
  a = b = {};  // freed while the device may still be at work
  const HostRead r(*copy);
  CHECK(r.as<double>()[0] == 200);
  CHECK(r.as<double>()[99'999] == 200);
}

TEST_CASE("the bytes of a kernel are loaded anew, and bytes that are none are an error" * needs_opencl()) {
  Device& d = device("cl");
  const UOp kernel =
      lambda({add(mul(tensor(0, {37}), tensor(0, {37})), broadcast_to(scalar(1), Dims{37}))}, 2);
  const Source source = source_of(d, kernel);
  const std::string bytes = d.compile(source);
  CHECK(bytes.size() > 100);
  const std::vector<Bytes> args{doubles({37}, {1, 2, 3, -0.5, 7}), doubles({}, {0.125})};
  const auto expected = run(device("interp"), kernel, args);
  for (int i = 0; i < 2; ++i) {  // as it was built, then from its bytes
    const Executable e(source, kernel, d.load(source, bytes), 0);
    compare(launch(d, e, args), expected, 0);
  }
  for (const std::string& bad : {std::string("no binary"), std::string(), bytes.substr(0, bytes.size() / 2)})
    CHECK_THROWS_AS((void)d.load(source, bad), Error);
  const KeyFields key = d.cache_key(source);
  REQUIRE(key.size() >= 4);
  for (const KeyField& f : key) CHECK_FALSE(f.value.empty());
}

TEST_CASE("a kernel that does not build: device, options, log, and the source in a file" * needs_opencl()) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "tinyphys_test_opencl_build";
  const env::ScopedOverride dir("TINYPHYS_DEBUG_DIR", folder.string());
  Source bad = source_of(device("cl"), lambda({neg(tensor(0, {3}))}, 1));
  bad.text = "__kernel void kernel_0() { no_such_word; }\n";
  bad.name = "k_bad";
  const std::string text = message([&] { (void)device("cl").compile(bad); });
  CHECK(text.find("[compile] the device cl (") == 0);
  CHECK(text.find("options: -cl-std=CL1.2") != std::string::npos);
  CHECK(text.find("no_such_word") != std::string::npos);  // the log
  const std::filesystem::path path = folder / "k_bad.cl";
  CHECK(text.find("source: " + path.string()) != std::string::npos);
  std::ifstream file(path);
  std::stringstream written;
  written << file.rdbuf();
  CHECK(written.str() == bad.text);
  std::filesystem::remove_all(folder);
}

TEST_CASE("what of OpenCL is missing is said") {
  CHECK(message([] {
          try_opencl_loader("libno_such_loader.so");
        }).find("its loader libno_such_loader.so is not there") != std::string::npos);
  CHECK(message([] { try_opencl_loader("libm.so.6"); }).find("libm.so.6 has no cl") != std::string::npos);
}

TEST_CASE("hidden: why there is no OpenCL" * doctest::skip()) {
  for (const DeviceInfo& d : devices())
    if (d.name == "cl") std::printf("available %d: %s\n", d.available, d.description.c_str());
  std::printf("%s\n",
              message([] { (void)(Tensor::arange(3).to("cl") * 2).to_vector<std::int64_t>(); }).c_str());
  const env::ScopedOverride chosen("TINYPHYS_DEVICE", "cl");
  std::printf("%s\n", message([] { (void)(Tensor::arange(3) * 2).to_vector<std::int64_t>(); }).c_str());
  const env::ScopedOverride other("TINYPHYS_DEVICE", "cpu");
  std::printf("all else works: %g\n", (Tensor::arange(3) * 2.0).sum().item<double>());
}

TEST_CASE("without a driver everything else works, and what asks for OpenCL says which step found none" *
          needs_opencl()) {
  const std::string none = run_again("OCL_ICD_VENDORS=/nonexistent/", "hidden: why there is no OpenCL");
  CAPTURE(none);
  CHECK(none.find("available 0: no OpenCL device: libOpenCL.so.1 finds no driver") != std::string::npos);
  CHECK(none.find("/nonexistent/ (OCL_ICD_VENDORS)") != std::string::npos);
  CHECK(none.find("[to] no OpenCL device") != std::string::npos);
  CHECK(none.find("[device] no OpenCL device") != std::string::npos);
  CHECK(none.find("all else works: 6") != std::string::npos);
}

TEST_CASE("PoCL has a folder for its kernels where there is no home" * needs_opencl()) {
  const std::string folder = std::filesystem::temp_directory_path() / "tinyphys_test_no_home";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  for (const char* home : {"-u HOME", "HOME=/proc/no_home"}) {
    const std::string some =
        run_again(std::string("-u POCL_CACHE_DIR -u XDG_CACHE_HOME ") + home + " TMPDIR=" + folder,
                  "hidden: why there is no OpenCL");
    CAPTURE(some);
    CHECK(some.find("available 1: ") != std::string::npos);
  }
  // A driver that is another one needs none.
  if (device("cl").properties().description.find("pthread") == 0)
    CHECK_FALSE(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
}

TEST_CASE("hidden: two OpenCL devices" * doctest::skip()) {
  const Tensor x = Tensor::linspace(0.0, 1.0, 33).to("cl") * 3.0, y = x.to("cl:1") * x.to("cl:1");
  std::printf("%s %s %d\n", y.device().c_str(), message([&] { (void)(x + y); }).c_str(),
              y.to("cpu").to_vector<double>()[32] == 9.0);
}

TEST_CASE("values move from one OpenCL device to another" * needs_opencl()) {
  if (device("cl").properties().description.find("pthread") != 0) return;  // PoCL can be asked for two
  const std::string two = run_again("POCL_DEVICES='pthread basic'", "hidden: two OpenCL devices");
  CAPTURE(two);
  CHECK(two.find("cl:1 [add] operands on different devices, cl and cl:1") != std::string::npos);
  CHECK(two.find(") 1\n") != std::string::npos);
}

TEST_CASE("float64 on a device that has none is an error that names it") {
  const OpenClTarget no_doubles{.vector_bytes = 16, .fp64 = false};
  const auto text = [&](const UOp& k) {
    return render_opencl_c(lower_kernel(k, Target{.vector_bytes = 16, .render = kOpenClCaps}), no_doubles,
                           "cl (Small GPU)");
  };
  CHECK(message([&] {
          (void)text(lambda({neg(tensor(0, {9}))}, 1));
        }).find("float64 on the device cl (Small GPU)") != std::string::npos);
  const std::string singles = text(lambda({neg(tensor(0, {9}, DType::kFloat32))}, 1));
  CHECK(singles.find("double") == std::string::npos);
  CHECK(singles.find("cl_khr_fp64") == std::string::npos);
}

TEST_CASE("work-items that hold one value each, as a GPU has them, give the same bits" * needs_opencl()) {
  // Devices live until the process ends.
  static Device* const items = open_opencl_device(0, "cl", OpenClStyle::kItems).release();
  CHECK(items->properties().work_group > 1);
  std::mt19937_64 rng(51);
  const Bytes v = random_values(rng, DType::kFloat64, {5001}),
              w = random_values(rng, DType::kFloat64, {5001}, 0.5, 2);
  const UOp x = tensor(0, {5001}), y = tensor(1, {5001});
  const UOp k = lambda({div(add(mul(x, x), y), unary(Op::SQRT, y)), op(Op::ROLL, {sub(x, y)}, {0, 7})}, 2);
  compare(run(*items, k, {v, w}), run(device("interp"), k, {v, w}), 0);
  const UOp sums = lambda({pair_sums(130, DType::kFloat64)}, 1);
  const Bytes q = random_values(rng, DType::kFloat64, {130});
  compare(run(*items, sums, {q}), run(device("interp"), sums, {q}), 1e-13, 1);
  const UOp total = lambda({sum_all(x)}, 1);  // in blocks
  compare(run(*items, total, {v}), run(device("interp"), total, {v}), 1e-13, 1);
}

TEST_CASE("built-in functions keep the bounds that docs/devices.md gives" * needs_opencl()) {
  struct Case {
    Op op;
    double lo, hi;
    double ulps64, ulps32;  // permitted by the OpenCL standard
  };
  const std::vector<Case> cases{
      {Op::EXP, -80, 80, 3, 3},   {Op::EXPM1, -2, 2, 3, 3}, {Op::LOG, 1e-6, 1e6, 3, 3},
      {Op::LOG1P, -0.9, 9, 2, 2}, {Op::SIN, -30, 30, 4, 4}, {Op::COS, -30, 30, 4, 4},
      {Op::TAN, -1.5, 1.5, 5, 5}, {Op::ASIN, -1, 1, 4, 4},  {Op::ACOS, -1, 1, 4, 4},
      {Op::ATAN, -9, 9, 5, 5},    {Op::SINH, -9, 9, 4, 4},  {Op::COSH, -9, 9, 4, 4},
      {Op::TANH, -9, 9, 5, 5},    {Op::ERF, -4, 4, 16, 16}};
  const auto exact = [](Op o, long double x) -> long double {
    switch (o) {
      case Op::EXP: return std::exp(x);
      case Op::EXPM1: return std::expm1(x);
      case Op::LOG: return std::log(x);
      case Op::LOG1P: return std::log1p(x);
      case Op::SIN: return std::sin(x);
      case Op::COS: return std::cos(x);
      case Op::TAN: return std::tan(x);
      case Op::ASIN: return std::asin(x);
      case Op::ACOS: return std::acos(x);
      case Op::ATAN: return std::atan(x);
      case Op::SINH: return std::sinh(x);
      case Op::COSH: return std::cosh(x);
      case Op::TANH: return std::tanh(x);
      default: return std::erf(x);
    }
  };
  const std::int64_t n = 4001;
  for (const DType d : {DType::kFloat64, DType::kFloat32}) {
    std::mt19937_64 rng(61);
    std::vector<UOp> outputs;
    std::vector<Bytes> args;
    for (const Case& c : cases) {
      outputs.push_back(op(c.op, {tensor(static_cast<std::int64_t>(args.size()), {n}, d)}));
      args.push_back(random_values(rng, d, {n}, c.lo, c.hi));
    }
    const auto got = run(device("cl"), lambda(outputs, static_cast<std::int64_t>(args.size())), args);
    for (std::size_t k = 0; k < cases.size(); ++k) {
      double worst = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const long double want = exact(cases[k].op, args[k].real(i));
        int e = 0;
        (void)std::frexp(static_cast<double>(want), &e);
        const double ulp = std::ldexp(1.0, e - (d == DType::kFloat64 ? 53 : 24));
        worst = std::max(worst, static_cast<double>(std::fabs(got[k].real(i) - want)) / ulp);
      }
      CAPTURE(name(cases[k].op));
      CAPTURE(name(d));
      if (env::debug_level() > 0)
        std::printf("%s %s: %.2f ulp\n", std::string(name(cases[k].op)).c_str(), std::string(name(d)).c_str(),
                    worst);
      CHECK(worst <= (d == DType::kFloat64 ? cases[k].ulps64 : cases[k].ulps32));
    }
  }
}

TEST_CASE("TINYPHYS_DEBUG_DIR gets the OpenCL C of each kernel" * needs_opencl()) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / ("tinyphys_cl_dump_" + std::to_string(getpid()));
  const env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.string()), device("TINYPHYS_DEVICE", "cl");
  (2.5 * Tensor::linspace(0.0, 1.0, 241)).realize();
  int sources = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    CHECK(entry.path().extension() != ".ll");
    if (entry.path().extension() != ".cl") continue;
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    CHECK(text.find(" void kernel_") != std::string::npos);
    ++sources;
  }
  CHECK(sources > 0);
  fs::remove_all(folder);
}

TEST_CASE("random graphs of exact operations: the bits of the interpreter" * needs_opencl()) {
  const std::vector<Op> exact{Op::NEG,    Op::ABS,     Op::SIGN,   Op::SQRT,  Op::FLOOR, Op::CEIL, Op::NOT,
                              Op::CAST,   Op::ADD,     Op::SUB,    Op::MUL,   Op::DIV,   Op::MAX,  Op::MIN,
                              Op::AND,    Op::OR,      Op::LT,     Op::LE,    Op::EQ,    Op::NE,   Op::FMA,
                              Op::PAD,    Op::ROLL,    Op::WHERE,  Op::SLICE, Op::CAT,   Op::MOD,  Op::PHILOX,
                              Op::EXPAND, Op::PERMUTE, Op::RESHAPE};
  const auto first = static_cast<std::uint64_t>(env::fuzz_seed(900));
  const std::int64_t programs = env::long_tests() ? 400 : 16, graphs = 12;
  for (std::int64_t k = 0; k < programs; ++k) {
    const std::uint64_t seed = first + static_cast<std::uint64_t>(k);
    CAPTURE(seed);  // TINYPHYS_FUZZ_SEED=<seed> repeats it
    RandomGraph random(seed);
    Dims shape = random.shape();
    for (std::int64_t& n : shape) n += random.below(3) == 0 ? 9 : 0;
    std::int64_t depth = 0;
    RandomGraph::Source below = [&](DType d, const Dims& s) -> UOp {
      if (depth < 4 && !random.one_in(4)) {
        ++depth;
        UOp made;
        for (int attempt = 0; attempt < 20 && !made; ++attempt) {
          const Op o = random.pick(exact);
          if (o == Op::MOD && d == DType::kFloat32)
            continue;  // the evaluator rounds r + b once, a kernel twice
          made = random.node(o, d, s, below);
        }
        --depth;
        if (made) return made;
      }
      return random.leaf(d, s);
    };
    std::vector<UOp> roots;
    while (static_cast<std::int64_t>(roots.size()) < graphs) roots.push_back(below(random.dtype(), shape));
    const Canonical c = canonicalize(roots);
    const auto got = run_program(device("cl"), c, roots), want = run_program(device("interp"), c, roots);
    for (std::size_t o = 0; o < roots.size(); ++o) {
      CAPTURE(o);
      std::int64_t wrong = 0;
      const std::size_t item = item_size(got[o].dtype);
      for (std::int64_t i = 0; i < got[o].size(); ++i) {
        const std::size_t at = static_cast<std::size_t>(i) * item;
        const bool nan = is_float(got[o].dtype) && std::isnan(got[o].real(i)) && std::isnan(want[o].real(i));
        wrong += !nan && std::memcmp(got[o].data.data() + at, want[o].data.data() + at, item) != 0;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("random scans: the bits of the interpreter" * needs_opencl()) {
  const auto first = static_cast<std::uint64_t>(env::fuzz_seed(70));
  for (std::uint64_t seed = first; seed < first + 8; ++seed) {
    CAPTURE(seed);
    const auto on = [&](const char* name) {
      const env::ScopedOverride scope("TINYPHYS_DEVICE", name);
      std::mt19937_64 rng(seed);
      const std::int64_t n = 1 + static_cast<std::int64_t>(rng() % 21);
      std::vector<double> start(static_cast<std::size_t>(n));
      for (double& v : start) v = std::generate_canonical<double, 53>(rng) - 0.5;
      const std::uint64_t kind = rng();
      const double a = std::generate_canonical<double, 53>(rng), b = std::generate_canonical<double, 53>(rng);
      const auto step = [&](Index i, Tensor q, Tensor p) {
        Tensor force = kind % 2 ? -q * a : -q / (q * q + 0.5);
        if (kind % 3 == 0)
          force = force + where(q > 0.1, p * b, q.astype(DType::kFloat32).astype(DType::kFloat64));
        if (kind % 5 < 2) force = force + q.roll(1, 0) * 0.25;
        if (kind % 7 < 3) force = force * (Tensor(i).astype(DType::kFloat64) * 0.001 + 1.0);
        if (kind % 11 < 4) force = force + sqrt(p * p + 1.0) - (q * p).sum() * 0.01;
        const Tensor kicked = p + 0.01 * force;
        return std::tuple{q + 0.01 * kicked, kicked};
      };
      const auto [q, p] = scan(step, std::tuple{Tensor::from(start), Tensor::from(start) * 0.5},
                               50 + static_cast<std::int64_t>(rng() % 50));
      realize({q, p});
      return std::pair{q.to_vector<double>(), p.to_vector<double>()};
    };
    const env::ScopedOverride plain("TINYPHYS_OPT", seed % 4 == 0 ? "0" : "1");
    const auto got = on("cl"), want = on("interp");
    CHECK(got == want);
  }
}
