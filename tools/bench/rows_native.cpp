// Generated code beside what an expert writes for this CPU, on as many threads.
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "reference/native.hpp"
#include "reference/plain.hpp"
#include "support/env.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"
#include "tinyphys/transforms.hpp"

namespace tinyphys::bench {
namespace {

void check(double error, double allowed) {
  if (!(error <= allowed)) throw Wrong(fmt::format("differs by {:.1e} from what is written by hand", error));
}

// --- elementwise ---

constexpr long kWave = 10'000'000, kTriad = 30'000'000, kTen = 10'000;

Bench wave(bool values, bool sum) {
  struct Data {
    std::vector<double> x = Random(4).vector(kWave, -5, 5), y = std::vector<double>(kWave);
    Tensor tensor = Tensor::from(x);
  };
  const auto d = std::make_shared<Data>();
  const auto make = [=] {
    const Tensor x = d->tensor, y = sin(x) * exp(-x * x) + x / 2;
    std::vector<Tensor> wanted;
    if (values) wanted.push_back(y);
    if (sum) wanted.push_back(y.sum());
    realize(wanted);
    return wanted;
  };
  const double total = native::wave(d->x.data(), d->y.data(), kWave, env::threads());
  const std::vector<Tensor> ours = make();
  if (values) check(relative_error(ours[0].to_vector<double>(), d->y), 1e-14);
  if (sum) check(std::abs(ours.back().item<double>() - total), 1e-6);
  Bench b;
  b.work = timed([=] { consume(make()); });
  b.reference = timed(
      [=] { consume(native::wave(d->x.data(), values ? d->y.data() : nullptr, kWave, env::threads())); });
  return b;
}

Bench axpy() {
  struct Data {
    std::vector<double> x = Random(4).vector(kTriad, -1, 1), y = Random(5).vector(kTriad, -1, 1),
                        z = std::vector<double>(kTriad);
    Tensor tx = Tensor::from(x), ty = Tensor::from(y);
  };
  const auto d = std::make_shared<Data>();
  const auto make = [=] { return (1.5 * d->tx + d->ty).realize(); };
  native::triad(1.5, d->x.data(), d->y.data(), d->z.data(), kTriad, env::threads());
  check(relative_error(make().to_vector<double>(), d->z), 1e-15);
  Bench b;
  b.work = timed([=] { consume(make()); });
  b.reference =
      timed([=] { native::triad(1.5, d->x.data(), d->y.data(), d->z.data(), kTriad, env::threads()); });
  return b;
}

// What a realize costs beside the arithmetic of its ten operations.
Bench ten_operations() {
  const auto x = std::make_shared<std::vector<double>>(Random(4).vector(kTen, -1, 1));
  const auto y = std::make_shared<std::vector<double>>(kTen);
  const Tensor t = Tensor::from(*x);
  const auto make = [=] {
    const Tensor a = t * 1.5 + 0.25, b = a * a - t;
    return ((b * 0.5 + a) * (b - 2.0) - t * a).realize();
  };
  native::ten_operations(x->data(), y->data(), kTen);
  check(relative_error(make().to_vector<double>(), *y), 1e-14);
  Bench b;
  b.work = [=](long repeat) {
    const auto by_hand = timed([=] {
      native::ten_operations(x->data(), y->data(), kTen);
      consume(*y);
    })(repeat);
    return std::max(timed([=] { consume(make()); })(repeat) - by_hand, 1e-9 * static_cast<double>(repeat));
  };
  return b;
}

// --- forces between all pairs, by broadcasting ---

constexpr long kBodies = 16384;
constexpr double kSoftening = 1e-2;

template <class T> Bench gravity(bool from_energy) {
  struct Data {
    std::vector<T> x, m, a = std::vector<T>(3 * kBodies);
    Tensor q, masses;
  };
  const auto d = std::make_shared<Data>();
  Random random(8);
  for (long i = 0; i < 3 * kBodies; ++i) d->x.push_back(static_cast<T>(random.uniform(-1, 1)));
  for (long i = 0; i < kBodies; ++i) d->m.push_back(static_cast<T>(random.uniform(0.5, 1.5) / kBodies));
  d->q = Tensor::from(d->x, {3, kBodies}).transpose(0, 1).realize();
  d->masses = Tensor::from(d->m);
  const auto make = [=] {
    const Tensor q = d->q.clone(), m = d->masses;
    const Tensor way = q.reshape({1, kBodies, 3}) - q.reshape({kBodies, 1, 3});
    const Tensor r2 = (way * way).sum(2) + kSoftening;
    if (from_energy) {
      const Tensor energy = -0.5 * (m.reshape({1, kBodies}) * m.reshape({kBodies, 1}) / sqrt(r2)).sum();
      return gradient(energy, {q})[0].realize();
    }
    const Tensor w = m.reshape({1, kBodies}) / (r2 * sqrt(r2));
    return (way * w.reshape({kBodies, kBodies, 1})).sum(1).realize();
  };
  const auto by_hand = [=] {
    native::gravity(d->x.data(), d->m.data(), d->a.data(), kBodies, static_cast<T>(kSoftening),
                    env::threads());
  };
  by_hand();
  Tensor ours = make();
  if (from_energy) ours = -ours / d->masses.reshape({kBodies, 1});
  check(relative_error(ours.transpose(0, 1).to_vector<T>(), d->a), sizeof(T) == 8 ? 1e-11 : 1e-4);
  Bench b;
  b.work = timed([=] { consume(make()); });
  b.reference = timed(by_hand);
  b.sampling = {.warm_up = 1, .min_samples = 3, .max_samples = 9, .budget_s = 4};
  return b;
}

// --- trajectories ---

constexpr long kMany = 100'000, kManySteps = 1000, kOneSteps = 10'000'000;
constexpr double kStep = 0.01;

std::array<Tensor, 4> henon_step(const Tensor& x, const Tensor& y, const Tensor& px, const Tensor& py) {
  const Tensor hx = px - 0.5 * kStep * (x + 2 * x * y), hy = py - 0.5 * kStep * (y + x * x - y * y);
  const Tensor nx = x + kStep * hx, ny = y + kStep * hy;
  return {nx, ny, hx - 0.5 * kStep * (nx + 2 * nx * ny), hy - 0.5 * kStep * (ny + nx * nx - ny * ny)};
}

std::vector<double> henon_scan(const std::vector<double>& start, long n, long steps) {
  const auto part = [&](long c) {
    return Tensor::from(std::vector<double>(start.begin() + c * n, start.begin() + (c + 1) * n));
  };
  const auto end = scan(
      [](const Tensor& x, const Tensor& y, const Tensor& px, const Tensor& py) {
        const auto s = henon_step(x, y, px, py);
        return std::tuple(s[0], s[1], s[2], s[3]);
      },
      std::tuple(part(0), part(1), part(2), part(3)), steps);
  const auto& [x, y, px, py] = end;
  realize({x, y, px, py});
  std::vector<double> out;
  for (const Tensor& t : {x, y, px, py}) {
    const std::vector<double> v = t.to_vector<double>();
    out.insert(out.end(), v.begin(), v.end());
  }
  return out;
}

Bench henon_many() {
  const auto start = std::make_shared<std::vector<double>>(Random(9).vector(4 * kMany, -0.1, 0.1));
  std::vector<double> truth = *start;
  native::henon_heiles(truth.data(), kMany, kStep, kManySteps, env::threads());
  check(relative_error(henon_scan(*start, kMany, kManySteps), truth), 1e-11);
  Bench b;
  b.work = timed([=] { consume(henon_scan(*start, kMany, kManySteps)); });
  b.reference = timed([=] {
    std::vector<double> s = *start;
    native::henon_heiles(s.data(), kMany, kStep, kManySteps, env::threads());
    consume(s);
  });
  b.sampling = {.warm_up = 1, .min_samples = 5, .max_samples = 21, .budget_s = 3};
  return b;
}

Bench henon_one(bool from_energy) {
  const std::vector<double> start{0.1, 0.05, 0.02, -0.1};
  const System system([](const Tensor& q, const Tensor& p) {
    const Tensor x = q[0], y = q[1];
    return 0.5 * (p * p).sum() + 0.5 * (x * x + y * y) + x * x * y - y * y * y / 3;
  });
  const auto make = [=](long steps) {
    if (!from_energy) return henon_scan(start, 1, steps);
    const State s = system.evolve({Tensor::from({start[0], start[1]}), Tensor::from({start[2], start[3]})},
                                  {.dt = kStep, .steps = steps});
    realize({s.q, s.p});
    std::vector<double> out = s.q.to_vector<double>();
    for (const double v : s.p.to_vector<double>()) out.push_back(v);
    return out;
  };
  const auto by_hand = [=](long steps) {
    std::vector<double> s = start;
    plain::henon_heiles(s.data(), kStep, steps);
    return s;
  };
  check(relative_error(make(10'000), by_hand(10'000)), 1e-10);
  Bench b;
  b.work = timed([=] { consume(make(kOneSteps)); });
  b.reference = timed([=] { consume(by_hand(kOneSteps)); });
  b.sampling = {.warm_up = 1, .min_samples = 5, .max_samples = 21, .budget_s = 3};
  return b;
}

}  // namespace

void add_native_rows(std::vector<Row>& rows) {
  const auto add = [&](std::string_view name, std::string_view work, std::int64_t n,
                       std::string_view reference, std::function<Bench()> set_up) {
    rows.push_back({.name = name, .work = work, .n = n, .reference = reference, .set_up = std::move(set_up)});
  };
  constexpr std::string_view kVectors = "by hand, vectors of this CPU and libmvec, all threads",
                             kPlain = "C++ -O3 -march=native";
  add("native/wave", "y = sin(x) exp(-x x) + x / 2 and its sum, both", kWave, kVectors,
      [] { return wave(true, true); });
  add("native/wave-values", "y alone", kWave, kVectors, [] { return wave(true, false); });
  add("native/wave-sum", "its sum alone", kWave, kVectors, [] { return wave(false, true); });
  add("native/axpy", "a x + y", kTriad, "by hand, stores that pass by the caches, all threads", axpy);
  add("native/gravity", "softened gravity, [N, N, 3] by broadcasting", kBodies, kVectors,
      [] { return gravity<double>(false); });
  add("native/gravity-f32", "the same in float32", kBodies, kVectors, [] { return gravity<float>(false); });
  add("native/gravity-gradient", "the gradient of the energy", kBodies, kVectors,
      [] { return gravity<double>(true); });
  add("native/henon-many", "10^5 Henon-Heiles trajectories, 1000 leapfrog steps, a scan over vectors", kMany,
      kVectors, henon_many);
  add("native/henon-one", "one trajectory, 10^7 steps, a scan", kOneSteps, kPlain,
      [] { return henon_one(false); });
  add("native/henon-energy", "the same from H", kOneSteps, kPlain, [] { return henon_one(true); });
  add("native/ten-ops", "realize of a cached graph of ten operations, less their arithmetic by hand", kTen,
      {}, ten_operations);
}

}  // namespace tinyphys::bench
