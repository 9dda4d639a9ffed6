// Plain C++ loops over tensors: folded into scans, and from there into jumps, with the values that they have as written.
#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/dd.hpp"
#include "support/env.hpp"
#include "support/records.hpp"
#include "uop/graph.hpp"
#include "uop/pending.hpp"
#include "uop/uop.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

using Values = std::vector<double>;

// What `loop` gives with folding, early and late, and without: all the same to the bit, or within rtol of the largest of
// `row` values side by side.
template <class Loop> void check_same(const Loop& loop, double rtol = 0, std::size_t row = 1) {
  const auto with = [&](const char* fold, const char* pending) {
    const tp::env::ScopedOverride a("TINYPHYS_FOLD", fold), b("TINYPHYS_PENDING", pending);
    return loop();
  };
  const Values plain = with("0", "4096");
  for (const std::string pending : {"64", "300", "4096"}) {
    CAPTURE(pending);
    const Values folded = with("1", pending.c_str());
    REQUIRE(folded.size() == plain.size());
    double worst = 0;
    for (std::size_t i = 0; i < plain.size(); ++i) {
      if (folded[i] == plain[i]) continue;
      double largest = 0;
      for (std::size_t k = i / row * row; k < std::min(plain.size(), (i / row + 1) * row); ++k)
        largest = std::max(largest, std::fabs(plain[k]));
      worst = std::max(worst, std::fabs(folded[i] - plain[i]) / largest);
    }
    CHECK(worst <= rtol);
  }
}

void append(Values& to, const Tensor& x) {
  for (const double v : x.to_vector<double>()) to.push_back(v);
}

Tensor some(std::int64_t n) { return (Tensor::arange(static_cast<double>(n)) * 0.37 + 0.2).realize(); }

struct Motion {
  Tensor q = some(3), p = some(3) * 0.5;
};
void kick(Motion& z, double h = 0.01) {
  z.p = z.p - h * (z.q + z.q * z.q * z.q);
  z.q = z.q + h * z.p;
}

}  // namespace

TEST_CASE("a loop that does not jump: the same bits folded or not, and as the scan") {
  constexpr int kPasses = 900;
  check_same([&] {
    Motion z;
    for (int i = 0; i < kPasses; ++i) kick(z);
    Values v = z.q.to_vector<double>();
    append(v, z.p);
    return v;
  });
  const tp::env::ScopedOverride early("TINYPHYS_PENDING", "256");
  Motion z;
  for (int i = 0; i < kPasses; ++i) kick(z);
  const Motion start;
  const auto [q, p] = tp::scan(
      [](const Tensor& x, const Tensor& y) {
        Motion m{x, y};
        kick(m);
        return std::tuple{m.q, m.p};
      },
      std::tuple{start.q, start.p}, kPasses);
  CHECK(z.q.to_vector<double>() == q.to_vector<double>());
  CHECK(z.p.to_vector<double>() == p.to_vector<double>());
  const std::string report = tp::explain(z.q).text;
  INFO(report);
  CHECK(contains(report, "passes of test_plain_loops.cpp:"));
  CHECK(contains(report, "into a scan"));
}

TEST_CASE("a linear loop of 10^5 passes becomes a jump, closer to the exact map than the loop" *
          needs_passes()) {
  // x'' = -x by shears: x_{k+1} + x_{k-1} = (2 - h^2) x_k, cos(theta) = 1 - h^2 / 2.
  constexpr int kPasses = 100'000;
  const double h = 0.01;
  Tensor q = Tensor::from({1.0}), p = Tensor::from({0.0});
  const std::int64_t before = tp::live_nodes();
  std::int64_t most = 0;
  for (int i = 0; i < kPasses; ++i) {
    p = p - h * q;
    q = q + h * p;
    most = std::max(most, tp::live_nodes() - before);
  }
  const double got = q.item<double>();
  CHECK(most < 20'000);
  const tp::DD half = asin(tp::DD(h) * 0.5), theta = 2.0 * half;
  tp::DD s, c, s1, c1;
  sincos(theta * static_cast<double>(kPasses), s, c);
  sincos(half, s1, c1);
  // q_n = cos((n + 1/2) theta) / cos(theta / 2)
  const tp::DD want = (c * c1 - s * s1) / c1;
  CHECK(std::fabs(got - want.hi) <= 1e-13);
  const std::string report = tp::explain(q).text;
  INFO(report);
  CHECK(contains(report, "folded "));
  CHECK(contains(report, "chose    powered step matrix"));
}

TEST_CASE("what people write in loops") {
  SUBCASE("an energy of each pass is kept") {
    check_same([] {
      Motion z;
      std::vector<Tensor> energies, states;
      for (int i = 0; i < 300; ++i) {
        kick(z);
        energies.push_back(z.p * z.p + z.q * z.q);
        if (i % 50 == 7) states.push_back(z.q);
      }
      Values v;
      for (const Tensor& e : energies) append(v, e);
      for (const Tensor& e : states) append(v, e);
      append(v, z.q);
      return v;
    });
  }
  SUBCASE("a number is read every so many passes, and at each") {
    for (const int every : {1, 7, 100})
      check_same([&] {
        Motion z;
        Values v;
        for (int i = 0; i < 300; ++i) {
          kick(z);
          if (i % every == 0) append(v, z.q[0]);
        }
        append(v, z.p);
        return v;
      });
  }
  SUBCASE("each hundredth pass is another one") {
    check_same([] {
      Motion z;
      for (int i = 0; i < 1050; ++i) {
        kick(z);
        if (i % 100 == 99) z.p = z.p * 0.5;
      }
      append(*std::make_unique<Values>(), z.q);
      return z.q.to_vector<double>();
    });
  }
  SUBCASE("break on a value") {
    check_same([] {
      Motion z;
      int passes = 0;
      for (; passes < 1000; ++passes) {
        kick(z);
        if (z.q[2].item<double>() < 0.3) break;
      }
      Values v = z.q.to_vector<double>();
      v.push_back(passes);
      return v;
    });
  }
  SUBCASE("nested") {
    check_same([] {
      Motion z;
      Tensor sum = Tensor::zeros({3});
      for (int i = 0; i < 40; ++i) {
        for (int k = 0; k < 20; ++k) kick(z);
        sum = sum + z.q * 0.1;
      }
      Values v = sum.to_vector<double>();
      append(v, z.p);
      return v;
    });
  }
  SUBCASE("two interleaved") {
    check_same([] {
      Motion a, b;
      b.q = b.q * 0.5;
      for (int i = 0; i < 400; ++i) {
        kick(a);
        kick(b, 0.02);
        if (i % 3 == 0) kick(b, 0.005);
      }
      Values v = a.q.to_vector<double>();
      append(v, b.q);
      return v;
    });
  }
  SUBCASE("a captured tensor changes in the middle") {
    check_same([] {
      Motion z;
      Tensor k = some(3);
      for (int i = 0; i < 600; ++i) {
        if (i == 371) k = (some(3) * 2.0).realize();
        z.p = z.p - 0.01 * k * z.q * z.q;
        z.q = z.q + 0.01 * z.p;
      }
      return z.q.to_vector<double>();
    });
  }
  SUBCASE("a number changes at one pass") {
    check_same([] {
      Motion z;
      for (int i = 0; i < 600; ++i) kick(z, i == 377 ? 0.011 : 0.01);
      return z.q.to_vector<double>();
    });
  }
  SUBCASE("the time, and random numbers") {
    check_same([] {
      Motion z;
      std::mt19937_64 engine(3);
      std::uniform_real_distribution<double> u(0, 0.01);
      for (int i = 0; i < 500; ++i) {
        z.p = z.p - 0.01 * (z.q * z.q + i * 0.01) + u(engine);
        z.q = z.q + 0.01 * z.p * static_cast<double>(i % 5);
      }
      return z.q.to_vector<double>();
    });
  }
  SUBCASE("states of passes before") {
    check_same([] {
      Tensor a = some(4), b = some(4) * 0.9, c = b * 1.1;
      for (int i = 0; i < 500; ++i) {
        const Tensor next = 1.9 * a - 0.95 * b + 0.01 * c * c;
        c = b;
        b = a;
        a = next * 0.99;
      }
      return a.to_vector<double>();
    });
  }
  SUBCASE("an exception leaves the loop") {
    check_same([] {
      Motion z;
      try {
        for (int i = 0; i < 1000; ++i) {
          kick(z);
          if (i == 613) throw std::runtime_error("enough");
        }
      } catch (const std::runtime_error&) {
      }
      return z.q.to_vector<double>();
    });
  }
  SUBCASE("gradient steps") {
    check_same(
        [] {
          Tensor x = some(3);
          const Tensor target = some(3) * 2.0;
          for (int i = 0; i < 200; ++i) {
            const Tensor d = x - target, loss = (d * d * d * d).sum();
            x = x - 0.01 * tp::gradient(loss, {x})[0];
          }
          return x.to_vector<double>();
        },
        1e-12);
  }
  SUBCASE("two threads") {
    check_same([] {
      Values v(6);
      const auto work = [&](std::size_t at, double h) {
        Motion z;
        for (int i = 0; i < 500; ++i) kick(z, h);
        const Values q = z.q.to_vector<double>();
        std::copy(q.begin(), q.end(), v.begin() + static_cast<std::ptrdiff_t>(at));
      };
      std::thread a(work, 0, 0.01), b(work, 3, 0.02);
      a.join();
      b.join();
      return v;
    });
  }
}

TEST_CASE("a pass is cut where the fewest values go to the next one: positions and momenta" *
          needs_passes()) {
  const Tensor m = Tensor::linspace(1.0, 2.0, 40);
  const auto force = [](const Tensor& q) {
    const Tensor walled = q.pad({{1, 1}}), stretch = walled.slice(0, 1) - walled.slice(0, 0, -1);
    return 40.0 * (stretch.slice(0, 1) - stretch.slice(0, 0, -1));
  };
  Tensor q = 0.01 * tp::sin(0.1 * Tensor::arange(40.0)), p = Tensor::zeros({40});
  for (int i = 0; i < 20'000; ++i) {
    p = p + 1e-3 * force(q);
    q = q + 1e-3 * p / m;
  }
  tp::realize({q, p});
  const std::string report = tp::explain(q).text;
  INFO(report);
  CHECK(report.find("carry float64[40], float64[40] ") != std::string::npos);
}

TEST_CASE("a gradient goes through a folded loop, while its start is held") {
  const tp::env::ScopedOverride early("TINYPHYS_PENDING", "256");
  const Motion start;
  Motion z = start;
  for (int i = 0; i < 500; ++i) kick(z);
  const Tensor loss = (z.q * z.q).sum();
  const auto [q, p] = tp::scan(
      [](const Tensor& x, const Tensor& y) {
        Motion m{x, y};
        kick(m);
        return std::tuple{m.q, m.p};
      },
      std::tuple{start.q, start.p}, 500);
  const auto got = tp::gradient(loss, {start.q, start.p}),
             want = tp::gradient((q * q).sum(), {start.q, start.p});
  CHECK(tp::allclose(got[0], want[0], 1e-12, 0));
  CHECK(tp::allclose(got[1], want[1], 1e-12, 0));
}

TEST_CASE("a pass that differs: explain() says which, and what" * needs_passes()) {
  const Tensor stiff = some(2), other = some(2) * 1.5;
  struct Row {
    long odd;
    std::string what;
    bool number, value, branch;
  };
  for (const Row& row :
       {Row{7'777, "differs: ", true, false, false}, Row{5'003, "differs: ", false, true, false},
        Row{1'030, "SIN float64[2] at test_plain_loops.cpp:", false, false, true},
        Row{60, "differs: ", false, true, false}}) {
    Tensor q = some(2), p = some(2);
    for (long i = 1; i <= 12'000; ++i) {
      const bool odd = i == row.odd;
      p = p - (odd && row.number ? 2e-3 : 1e-3) * (odd && row.value ? other : stiff) * q;
      if (odd && row.branch) p = tp::sin(p);
      q = q + 1e-3 * p;
    }
    tp::realize({q, p});
    const std::string report = tp::explain(q).text;
    INFO(report);
    CHECK(contains(
        report, "refused  one loop with the passes before: pass " + tp::with_commas(row.odd) + " differs"));
    CHECK(contains(report, row.what));
    CHECK(!contains(report, "repeats"));
  }
  // What follows a loop, and the same lines run once more from another start, are no passes that differ.
  const auto motion = [&](double start) {
    Tensor q = start * some(2), p = some(2);
    for (int i = 0; i < 3000; ++i) {
      p = p - 1e-3 * stiff * q;
      q = q + 1e-3 * p;
    }
    return tp::sin(q);
  };
  const Tensor first = motion(1), second = motion(2);
  CHECK(!contains(tp::explain(first).text, "passes before"));
  CHECK(!contains(tp::explain(second).text, "passes before"));
}

TEST_CASE(
    "what all passes have in common is computed once, and a branch taken now and then is part of a longer "
    "pass") {
  const auto run = [](int every, int passes) {
    const Tensor k = some(2);
    Tensor q = some(2), p = some(2);
    for (int i = 1; i <= passes; ++i) {
      p = p - 1e-3 * k * q;  // k is held: the past is kept
      if (i % every == 0) p = 0.99 * p;
      q = q + 1e-3 * p;
    }
    tp::realize({q, p});
    Values v = q.to_vector<double>();
    append(v, p);
    return v;
  };
  for (const int every : {100, 7, 1'000'000}) check_same([&] { return run(every, 3000); }, 1e-10, 4);
  const tp::env::ScopedOverride on("TINYPHYS_FOLD", "1"), most("TINYPHYS_PENDING", "4096");
  run(100, 20'000);
  const std::int64_t before = tp::live_nodes();
  {
    const Tensor k = some(2);
    Tensor q = some(2), p = some(2);
    for (int i = 0; i < 50'000; ++i) {
      p = p - 1e-3 * k * q;
      q = q + 1e-3 * p;
    }
    CHECK(tp::live_nodes() < before + 5000);
  }
}

TEST_CASE("memory stays flat, whether the start is held or not, and where nothing repeats") {
  const Motion start;
  Motion z = start;
  std::mt19937_64 engine(5);
  const auto most_of = [&](auto&& pass, int passes) {
    const std::int64_t before = tp::live_nodes();
    std::int64_t most = 0;
    for (int i = 0; i < passes; ++i) {
      pass(i);
      most = std::max(most, tp::live_nodes() - before);
    }
    return most;
  };
  const tp::env::ScopedOverride early("TINYPHYS_PENDING", "512");
  CHECK(most_of([&](int) { kick(z); }, 20'000) <
        6000);  // what was recorded before it counts for the first look
  // What was folded and read becomes a value without a past, whether its loop was computed at once or later.
  double sum = 0;
  for (const int every : {1, 7, 300}) {
    CAPTURE(every);
    Motion read;
    const auto pass = [&](int i) {
      kick(read);
      if (i % every == 0) sum += (read.q * read.p).sum().item<double>();
    };
    CHECK(most_of(pass, 12'000) < 3000);
  }
  CHECK(std::isfinite(sum));
  // Each block of these has a plan of its own, and the last ones are kept.
  const auto at_random = [&](int) {
    switch (engine() % 5) {
      case 0: z.q = z.q * 0.99 + z.p; break;
      case 1: z.q = tp::abs(z.q) + 0.1; break;
      case 2: z.p = z.p.roll(1, 0) - z.q * 0.01; break;
      case 3: z.p = z.p * z.p * 0.1; break;
      default: z.q = where(z.q > z.p, z.q, z.p) * 0.5;
    }
  };
  CHECK(most_of(at_random, 3000) < 30'000);
  CHECK(std::isfinite(z.q[0].item<double>()));
}

TEST_CASE(
    "equal operations at the place of older ones are noted once: a loop that realizes each pass stays "
    "cheap") {
  // Nodes of passes before are gone, and new ones lie where they lay, with the same sources.
  const auto work_of = [](int passes) {
    const std::int64_t before = tp::nodes_visited();
    Motion z;
    for (int i = 0; i < passes; ++i) {
      kick(z);
      tp::realize({z.q, z.p});
    }
    return static_cast<double>(tp::nodes_visited() - before);
  };
  (void)work_of(500);
  const double once = work_of(1000);
  CHECK(work_of(4000) <= 4.4 * once);
  CHECK(tp::PendingTrace::take_alive().size() < 100);
}

TEST_CASE("a loop after a loop of as many operations, which read more values each") {
  const Tensor one = Tensor::full({3}, 1.0).clone();
  const auto run = [&] {
    Tensor x = Tensor::from({0.25, 0.5, 0.75}).clone();
    const Tensor c = (x > 0.4).realize();
    for (int i = 0; i < 6000; ++i) x = sqrt(x) + one;
    x.realize();  // the next loop is all that the trace holds
    for (int i = 0; i < 6000; ++i) x = where(c, sqrt(x), one);
    for (int i = 0; i < 6000; ++i) x = where(c, one, sqrt(x));
    return x.to_vector<double>();
  };
  const std::vector<double> folded = run();
  const tp::env::ScopedOverride off("TINYPHYS_FOLD", "0");
  CHECK(run() == folded);
}

TEST_CASE("random loops: folded or not, the same bits") {
  const auto seed = static_cast<std::uint64_t>(tp::env::fuzz_seed(11));
  CAPTURE(seed);
  const std::int64_t programs = tp::env::fuzz_graphs(60);
  // In which a value and what it could be made of again both went; whose kernels doubled with each operation; of which an
  // element is 0 and the others are not.
  std::vector<std::int64_t> all{434, 757, 5219};
  for (std::int64_t program = 0; program < programs; ++program) all.push_back(program);
  for (const std::int64_t program : all) {
    CAPTURE(program);
    // An affine one jumps, unless physics is off: then it is as good, not the same.
    const bool physics = program % 2 == 1;
    const tp::env::ScopedOverride opt("TINYPHYS_OPT", physics ? "1" : "0");
    const auto loop = [&] {
      std::mt19937_64 rng(seed + static_cast<std::uint64_t>(program));
      const auto below = [&](std::size_t n) { return static_cast<std::size_t>(rng() % n); };
      struct Step {
        std::size_t op, to, a, b;
      };
      std::vector<Step> body(2 + below(6));
      for (Step& s : body) s = {below(10), below(3), below(3), below(3)};
      const std::size_t passes = 60 + below(120), read = 1 + below(200), keep = 1 + below(60),
                        odd = below(200);
      std::vector<Tensor> x{some(4), some(4) * 0.5, some(4) * -0.25}, kept;
      Values v;
      for (std::size_t i = 0; i < passes; ++i) {
        for (const Step& s : body) {
          const Tensor a = x[s.a], b = x[s.b];
          switch (s.op) {
            case 0: x[s.to] = a * 0.5 + b * 0.25; break;
            case 1: x[s.to] = a - b * 0.125; break;
            case 2: x[s.to] = (a * b) * 0.3; break;
            case 3: x[s.to] = tp::abs(a) / (b * b + 2.0); break;
            case 4: x[s.to] = a.roll(1, 0) * 0.7; break;
            case 5: x[s.to] = where(a > b, a * 0.9, b); break;
            case 6: x[s.to] = a * 0.5 + static_cast<double>(i) * 0.001; break;
            case 7: x[s.to] = sqrt(tp::abs(a)) * 0.6; break;
            case 8: x[s.to] = a.flip(0) * (i == odd ? 0.1 : 0.8); break;
            default: x[s.to] = tp::cat({a.slice(0, 0, 2), b.slice(0, 2, 4)}, 0); break;
          }
        }
        if (i % read == read - 1) append(v, x[below(3)]);
        if (i % keep == keep - 1) kept.push_back(x[below(3)]);
      }
      for (const Tensor& k : kept) append(v, k);
      for (const Tensor& k : x) append(v, k);
      return v;
    };
    check_same(loop, physics ? 1e-12 : 0, 4);
  }
}
