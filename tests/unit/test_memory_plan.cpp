// Memory of a run: what is taken, how often, and that no value is overwritten while somebody needs it.
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "codegen/kernel.hpp"
#include "engine/canonical.hpp"
#include "engine/pipeline.hpp"
#include "schedule/plan.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/history.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

constexpr std::int64_t kSize = 20'000, kBytes = kSize * 8;

Tensor ramp(std::int64_t n = kSize) { return Tensor::linspace(0.1, 3.0, n).realize(); }

// What `make` takes to realize, when its kernels are there; its result is dropped at the end.
struct Cost {
  std::int64_t allocations, peak;
};
template <class F> Cost cost_of(const F& make) {
  make().realize();
  const std::int64_t before = tp::allocations(), bytes = tp::live_bytes();
  tp::reset_peak_bytes();
  const Tensor value = make().realize();
  return {tp::allocations() - before, tp::peak_bytes() - bytes};
}

std::shared_ptr<tp::Plan> plan_of(const std::vector<Tensor>& values, bool fuse = true) {
  std::vector<tp::UOp> roots;
  for (const Tensor& t : values) roots.push_back(tp::uop(t));
  const tp::UOp program = tp::run_passes(tp::canonicalize(roots).program, {fuse});
  tp::ScheduleOptions options;
  options.fuse = fuse;
  options.fits_kernel = [](const tp::Node* scan) {
    long ops = 0;
    return tp::fits_scan_kernel(scan, ops);
  };
  return tp::schedule(program.get(), options);
}
int overwrites(const tp::Plan& plan) {
  return static_cast<int>(std::count_if(plan.steps.begin(), plan.steps.end(),
                                        [](const tp::PlanStep& s) { return s.overwritten >= 0; }));
}

// Follows which slot each buffer holds: every slot that is read is still there, the results at the end too.
void check_plan(const tp::Plan& plan) {
  std::vector<int> holds(plan.buffers.size(), -1);
  std::vector<int> stands_for(plan.slots.size());  // by a CHECK
  for (std::size_t i = 0; i < stands_for.size(); ++i) stands_for[i] = static_cast<int>(i);
  const auto there = [&](int slot) {
    slot = stands_for[static_cast<std::size_t>(slot)];
    const int b = plan.slots[static_cast<std::size_t>(slot)].buffer;
    return b < 0 || holds[static_cast<std::size_t>(b)] == slot;
  };
  bool right = true;
  for (const tp::PlanStep& s : plan.steps) {
    for (const tp::Operand& o : s.inputs) right &= o.scalar || o.index < 0 || there(o.index);
    if (s.kind == tp::PlanOp::kCheck)
      stands_for[static_cast<std::size_t>(s.outputs[0])] =
          stands_for[static_cast<std::size_t>(s.inputs[0].index)];
    std::vector<int> taken;
    for (int o : s.outputs) {
      const int b = o < 0 ? -1 : plan.slots[static_cast<std::size_t>(o)].buffer;
      if (b < 0) continue;
      right &= plan.buffers[static_cast<std::size_t>(b)] == plan.slots[static_cast<std::size_t>(o)].bytes();
      right &= std::find(taken.begin(), taken.end(), b) == taken.end();
      taken.push_back(b);
      for (const tp::Operand& i : s.inputs)  // an input's memory is taken by the one step that says so
        if (!i.scalar && i.index >= 0 && i.index != s.overwritten)
          right &=
              plan.slots[static_cast<std::size_t>(stands_for[static_cast<std::size_t>(i.index)])].buffer != b;
      holds[static_cast<std::size_t>(b)] = o;
    }
    if (s.body) check_plan(*s.body);
  }
  for (int r : plan.results) right &= there(r);
  CHECK(right);
}

Tensor step(const Tensor& a) { return a + 0.01 * sin(a.roll(3, 0)) - 1e-9 * a.sum(); }

}  // namespace

TEST_CASE("a loop takes its memory once, however many passes it makes") {
  const Tensor x = ramp(), two = tp::stack({x, x + 1.0}).realize();
  const auto takes_the_same = [](const auto& make, std::int64_t few = 10, std::int64_t many = 10'000) {
    const Cost a = cost_of([&] { return make(few); }), b = cost_of([&] { return make(many); });
    CHECK(a.allocations == b.allocations);
    CHECK(a.peak == b.peak);
  };
  SUBCASE("one carry") {
    takes_the_same([&](std::int64_t n) { return tp::scan(step, x, n); });
    // Two halves of the carry, the rolled sine and the sum; the last carry is the result.
    CHECK(cost_of([&] { return tp::scan(step, x, 50); }).peak <= 3 * kBytes + 4096);
  }
  SUBCASE("carries that swap and stay behind, the index as a carry") {
    takes_the_same(
        [&](std::int64_t n) {
          const auto [a, b, i, j] = tp::scan(
              [](const tp::Index& k, const Tensor& u, const Tensor& v, const Tensor&, const Tensor& l) {
                return std::tuple{u * 0.5 + v, u, Tensor(k), l + 1};
              },
              std::tuple{x, x, Tensor::full({}, std::int64_t{0}), Tensor::full({}, std::int64_t{0})}, n);
          return a + b + (i + j).astype(tp::DType::kFloat64);
        },
        10, 1000);
  }
  SUBCASE("a loop in a loop") {
    takes_the_same(
        [&](std::int64_t n) {
          return tp::scan([](const Tensor& a) { return tp::scan(step, a, 5) * 0.5; }, x, n);
        },
        10, 1000);
  }
  SUBCASE("a product of matrices") {
    const Tensor a = (Tensor::eye(64) * 0.5).realize();
    takes_the_same(
        [&](std::int64_t n) {
          return tp::scan([&](const Tensor& v) { return tp::matmul(a, v) + 1.0; }, two.reshape({64, 625}), n);
        },
        10, 300);
  }
  SUBCASE("an evolution whose loop is taken") {
    const tp::System system([](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + (q * q * q * q).sum() + (q * q.roll(1, 0)).sum();
    });
    takes_the_same(
        [&](std::int64_t n) {
          return system.evolve({x, x}, {.dt = 1e-4, .steps = n}).q;
        },
        10, 1000);
  }
}

TEST_CASE("a chain of kernels holds as much memory as a short one") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const Tensor x = ramp();
  const auto elementwise = [&](long n) {
    Tensor y = x;
    for (long i = 0; i < n; ++i) y = y * 0.999 + 0.25;
    return y;
  };
  const auto moving = [&](long n) {
    Tensor y = x;
    for (long i = 0; i < n; ++i) y = sin(y.roll(1, 0) + y * y.flip(0));
    return y;
  };
  // Each kernel of the first writes over what it reads, each of the second has to leave it.
  CHECK(cost_of([&] { return elementwise(4000); }).peak == kBytes);
  CHECK(overwrites(*plan_of({elementwise(4000)})) > 10);
  const Cost few = cost_of([&] { return moving(10); }), many = cost_of([&] { return moving(100); });
  CHECK(few.peak == 2 * kBytes);
  CHECK(many.peak == few.peak);
  CHECK(many.allocations == few.allocations);
}

TEST_CASE("memory of sizes that do not come again is given back at once") {
  const Tensor x = ramp();
  // Each part is less than half of the last: together they are no more than twice the first.
  const Cost c = cost_of([&] {
    Tensor y = x;
    for (std::int64_t n = kSize / 2; n > 1000; n /= 2)
      y = sin(y.slice(0, 0, n) + y.slice(0, 1, n + 1)) * y.sum();
    return y;
  });
  CHECK(c.peak <= kBytes);
}

TEST_CASE("a kernel writes over an input only where each element needs no other one") {
  const Tensor x = ramp(5000), y = (x.flip(0) + 0.5).realize();
  const auto cut = [&] { return tp::sin(x + y); };  // a value with a buffer of its own
  const auto plain = [](const Tensor& t) { return plan_of({t}, false); };
  // With a kernel for each op: the second and third may write over the first.
  CHECK(overwrites(*plain(tp::exp(tp::sin(x + y)))) == 2);
  CHECK(overwrites(*plain(cut().reshape({50, 100}) * 2.0)) == 2);
  CHECK(overwrites(*plain((cut() > 0.5).astype(tp::DType::kBool))) == 1);  // a bool is smaller
  // An element that another one reads: a roll, a flip, a product of rows, a sum of all.
  CHECK(overwrites(*plain(cut().roll(1, 0) * cut())) == 1);
  CHECK(overwrites(*plain(cut().flip(0) * 2.0)) == 1);
  CHECK(overwrites(*plain(cut().reshape({50, 100}).permute({1, 0}) * 2.0)) == 1);
  CHECK(overwrites(*plain(cut().reshape({50, 100}).permute({1, 0}).reshape({5000}) * cut())) == 1);
  // A value that is wanted, or read again later, stays.
  const Tensor a = x + y, b = tp::sin(a);
  CHECK(overwrites(*plan_of({a, b}, false)) == 0);
  CHECK(overwrites(*plain(tp::exp(b) * a.roll(1, 0))) == 2);  // exp(b) over b, the product over exp(b)
  const auto values = [&] {
    const Tensor c = x + y, d = tp::sin(c), e = d.roll(1, 0) * d;
    tp::realize({c, e});
    return std::tuple{c.to_vector<double>(), e.to_vector<double>()};
  };
  const tp::env::ScopedOverride off("TINYPHYS_OPT", "0");
  const auto [sums, products] = values();
  const auto xs = x.to_vector<double>(), ys = y.to_vector<double>();
  bool right = true;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    right &= sums[i] == xs[i] + ys[i];
    const double before = sums[(i + xs.size() - 1) % xs.size()];
    right &= std::fabs(products[i] - std::sin(before) * std::sin(sums[i])) < 1e-14;
  }
  CHECK(right);
}

TEST_CASE("results are nobody else's memory") {
  const Tensor x = ramp();
  const Tensor a = x * 2.0, b = sin(a), c = b + 1.0, d = c.reshape({kSize / 2, 2});
  tp::realize({a, b, c, d});
  const auto before = std::tuple{a.to_vector<double>(), b.to_vector<double>(), c.to_vector<double>()};
  // Further runs of the same plan, and of others, leave them alone.
  for (int i = 0; i < 3; ++i) {
    const Tensor e = (x + 1.0) * 2.0, f = sin(e), g = f + 1.0;
    tp::realize({e, f, g, tp::scan(step, g, 3)});
  }
  CHECK(std::tuple{a.to_vector<double>(), b.to_vector<double>(), c.to_vector<double>()} == before);
  // A scan of no steps hands its argument on: what follows must not write over it.
  const Tensor start = (x + 0.5).realize(), none = tp::scan(step, start, 0);
  const auto kept = start.to_vector<double>();
  CHECK(((none * 3.0).sum() - 3.0 * start.sum()).item<double>() == doctest::Approx(0).epsilon(1e-9));
  CHECK((none * 3.0 + 1.0).to_vector<double>()[7] == kept[7] * 3.0 + 1.0);
  CHECK(start.to_vector<double>() == kept);
}

TEST_CASE(
    "random programs: no slot is overwritten while it is read later, and planned memory changes no value") {
  const auto seed = static_cast<std::uint64_t>(tp::env::fuzz_seed(1));
  CAPTURE(seed);
  std::mt19937_64 rng(seed);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(rng() % n); };
  const Tensor x = Tensor::linspace(0.2, 1.5, 600).realize();
  for (int round = 0; round < 40; ++round) {
    // Recorded twice, over other buffers: realized as a whole, and each op on its own, where all values are held.
    const Tensor other = x.clone();
    std::vector<Tensor> lazy{x, (x * 0.5).realize()}, eager{other, (other * 0.5).realize()};
    for (int i = 0; i < 25; ++i) {
      const std::size_t op = below(11), a = lazy.size() - 1 - below(std::min<std::size_t>(lazy.size(), 4)),
                        b = below(lazy.size());
      const auto make = [&](const std::vector<Tensor>& v) -> Tensor {
        switch (op) {
          case 0: return v[a] + v[b];
          case 1: return v[a] * 0.75;
          case 2: return sin(v[a]);
          case 3: return v[a].roll(7, 0) * v[b];
          case 4: return v[a].flip(0);
          case 5: return v[a].reshape({20, 30}).permute({1, 0}).reshape({600}) - v[b];
          case 6: return v[a] + v[b].reshape({20, 30}).sum({1}, true).expand({20, 30}).reshape({600}) * 0.01;
          case 7:
            return std::get<1>(tp::scan(
                [](const Tensor& u, const Tensor& w) {
                  return std::tuple{w, u * 0.5 + w.roll(1, 0) * 0.5};
                },
                std::tuple{v[a], v[b]}, 3));
          case 8: return where(v[a] > v[b], v[b], v[a] * 0.5);
          case 9: return tp::cat({v[a].slice(0, 300, 600), v[b].slice(0, 0, 300)}, 0);
          default: return tp::gather(v[a], (abs(v[b]) * 3.0).astype(tp::DType::kInt64) % 600);
        }
      };
      lazy.push_back(make(lazy));
      const tp::env::ScopedOverride off("TINYPHYS_OPT", "0");
      eager.push_back(make(eager).realize());
    }
    std::vector<Tensor> wanted{lazy.back(), lazy[below(lazy.size())], lazy[below(lazy.size())]};
    check_plan(*plan_of(wanted));
    check_plan(*plan_of(wanted, false));
    const tp::env::ScopedOverride off("TINYPHYS_OPT", "0");
    tp::realize(wanted);
    for (const Tensor& t : wanted) {
      const auto at =
          std::find_if(lazy.begin(), lazy.end(), [&](const Tensor& l) { return tp::uop(l) == tp::uop(t); });
      const Tensor& same = eager[static_cast<std::size_t>(at - lazy.begin())];
      // A sum that is fused with what it adds may go by other lanes: its last bits are not the point.
      CHECK(tp::allclose(t, same, 1e-12, 1e-12));
    }
  }
}
