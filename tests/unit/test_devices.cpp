// Values that the user moves from one device to another.
#include <atomic>
#include <thread>

#include "runtime/device.hpp"
#include "support/env.hpp"
#include "test_tensor_helpers.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/transforms.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

Tensor ramp(std::int64_t n) { return Tensor::arange(n) * 0.25 + 0.5; }

}  // namespace

TEST_CASE("a tensor moved to a device is computed there, and so is what comes from it") {
  const Tensor x = ramp(10);
  CHECK(x.device() == env::device());
  const Tensor there = x.to("island");
  CHECK(there.device() == "island");
  CHECK((there * 2.0).device() == "island");
  CHECK((there + x).device() == "island");  // x was moved nowhere
  CHECK(sin(there).sum().device() == "island");
  CHECK(there.to("cpu").device() == "cpu");
  CHECK(there.clone().device() == "island");
  CHECK(there.astype(DType::kFloat32).device() == "island");
  const Tensor y = there * x + 1.0;
  y.realize();
  CHECK(&storage(uop(y).get())->memory() == &device("island").memory());
  CHECK(&storage(uop(there).get())->memory() == &device("island").memory());
  CHECK(y.device() == "island");
  const Doubles v = doubles(x);
  for (std::size_t i = 0; i < v.size(); ++i) CHECK(doubles(y)[i] == v[i] * v[i] + 1.0);
}

TEST_CASE("there and back, over three devices and in one realize") {
  const Tensor x = ramp(9);
  const Tensor a = (x.to("interp") * 3.0).to("island") - 1.0, b = a.to("cpu") * a.to("cpu");
  const Tensor c = x * 2.0;  // another device in the same call
  realize({c, b, a});
  for (std::int64_t i = 0; i < 9; ++i) {
    const double v = 0.25 * static_cast<double>(i) + 0.5;
    CHECK(doubles(b)[static_cast<std::size_t>(i)] == (3.0 * v - 1.0) * (3.0 * v - 1.0));
    CHECK(doubles(c)[static_cast<std::size_t>(i)] == 2.0 * v);
  }
  CHECK(a.device() == "island");
  CHECK(b.device() == "cpu");
  // Movement to where a tensor is is nothing.
  CHECK(uop(a.to("island")).get() == uop(a).get());
  // Empty tensors, numbers and other dtypes move, too.
  CHECK(Tensor::zeros({0, 3}).to("island").shape() == Shape{0, 3});
  CHECK(Tensor::zeros({0, 3}).to("island").to_vector<double>().empty());
  CHECK((Tensor::arange(5).to("island") * 2).to_vector<std::int64_t>() == Ints{0, 2, 4, 6, 8});
  CHECK((ramp(4) > 0.8).to("island").to_vector<bool>() == Bools{false, false, true, true});
}

TEST_CASE("operands on two devices meet in no operation") {
  const Tensor a = ramp(3).to("cpu"), b = ramp(3).to("island");
  const std::string text = "operands on different devices, cpu and island; move one with to(device)";
  // clang-format off
  CHECK(message([&] { (void)(a + b); }) == error_at("[add] " + text));
  CHECK(message([&] { (void)where(a > 1.0, a, b); }) == error_at("[where] " + text));
  CHECK(message([&] { (void)matmul(a, b); }).find(text) != std::string::npos);
  CHECK(message([&] { (void)cat({a, b}, 0); }).find(text) != std::string::npos);
  CHECK(message([&] { (void)allclose(a, b); }) == error_at("[allclose] " + text));
  CHECK(message([&] { (void)set(a, {0}, b[0]); }) == error_at("[set] " + text));
  // clang-format on
  CHECK(doubles(a + b.to("cpu")) == doubles(ramp(3) * 2.0));
  const System s(
      [&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (a * q * q).sum(); });
  CHECK(message([&] {
          (void)s.evolve({b, b}, {.dt = 0.1, .steps = 10});
        }).find("different devices") != std::string::npos);
  CHECK(doubles(a) == doubles(ramp(3)));  // nothing was lost
}

TEST_CASE("names that are no device, a device that runs nothing, and variables that are traced") {
  const Tensor x = ramp(3);
  // clang-format off
  CHECK(message([&] { (void)x.to("gpu"); }) == error_at("[to] no device \"gpu\"; there are: cpu interp null island cl cl:1 cl:2 cl:3"));
  // clang-format on
  CHECK(message([&] { (void)x.to(""); }).find("no device \"\"") != std::string::npos);
  CHECK(message([&] { (void)Tensor().to("cpu"); }).find("empty") != std::string::npos);
  CHECK(message([&] {
          (void)(x.to("null") * 2.0).to_vector<double>();
        }).find("null compiles and runs nothing") != std::string::npos);
  CHECK(message([&] {
          (void)grad([](const Tensor& y) { return y.to("island").sum(); })(x);
        }).find("being traced") != std::string::npos);
  CHECK(doubles(x) == doubles(ramp(3)));
}

TEST_CASE("derivatives flow through moves, back to where the argument is") {
  const Tensor x = ramp(5).realize();
  const Tensor there = x.to("island");
  const Tensor y = (there * there * there).sum() + (x.to("interp") * 2.0).sum().to("island");
  const Tensor g = gradient(y, {x})[0];
  const Doubles v = doubles(x), got = doubles(g);
  for (std::size_t i = 0; i < v.size(); ++i)
    CHECK(got[i] == doctest::Approx(3.0 * v[i] * v[i] + 2.0).epsilon(1e-15));
  const Tensor by_there = gradient(y, {there})[0];
  CHECK(doubles(by_there)[4] == doctest::Approx(3.0 * v[4] * v[4]).epsilon(1e-15));
}

TEST_CASE("scans, evolutions and plain loops on a device that was chosen") {
  const Tensor k = Tensor::from({1.0, 2.0, 3.0}).to("island"), q = Tensor::from({1.0, 0.5, -1.0}),
               p = Tensor::zeros({3});
  const auto energy = [](const Tensor& springs) {
    return System([=](const Tensor& x, const Tensor& y) {
      return 0.5 * (y * y).sum() + 0.5 * (springs * x * x).sum();
    });
  };
  const State there = energy(k).evolve({q, p}, {.dt = 0.1, .steps = 1000});
  const State here = energy(k.to("interp")).evolve({q, p}, {.dt = 0.1, .steps = 1000});
  CHECK(there.q.device() == "island");
  CHECK(here.q.device() == "interp");
  CHECK(allclose(there.q.to("cpu"), here.q.to("cpu"), 1e-12, 1e-14));
  Tensor x = q.to("island"), y = q;
  for (int i = 0; i < 300; ++i) {
    x = x * 0.99 + k * 0.01;
    y = y * 0.99 + k.to("interp") * 0.01;
  }
  CHECK(x.device() == "island");
  CHECK(allclose(x.to("cpu"), y.to("cpu"), 1e-13, 1e-14));
  // A loop that moves its state in each pass is no scan.
  Tensor z = q;
  for (int i = 0; i < 200; ++i) z = (z.to("island") * 0.5).to("interp") + 1.0;
  CHECK(allclose(z, Tensor::full({3}, 2.0).to("interp"), 1e-14, 0.0));
}

TEST_CASE("several threads move constants that nobody holds") {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const double c = t + i % 3;
        wrong += doubles((ramp(5) + c).to(i % 2 ? "island" : "interp") * 2.0)[4] != (1.5 + c) * 2.0;
      }
    });
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("what was moved lets go of its past") {
  const std::int64_t before = live_nodes();
  Tensor x = ramp(8);
  for (int i = 0; i < 400; ++i) x = (x.to(i % 2 ? "island" : "interp") * 0.5 + 1.0).realize();
  CHECK(live_nodes() < before + 60);
  CHECK(doubles(x)[3] == doctest::Approx(2.0));
}
