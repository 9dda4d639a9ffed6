// The sums over the steps of an affine map against adding them up in quad, and their bounds.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "linalg/affine_sums.hpp"
#include "support/quad.hpp"

namespace {

using namespace tinyphys;

std::size_t u(long i) { return static_cast<std::size_t>(i); }
Quad quad(DD x) { return Quad(x.hi) + Quad(x.lo); }

struct Random {
  std::mt19937_64 engine{5};
  double operator()() { return std::normal_distribution<double>()(engine); }
};

// Dense rows of quads.
struct QuadMap {
  long d;
  std::vector<Quad> a, shift;  // A - I
};
QuadMap in_quad(const AffineMap& map) {
  QuadMap q{map.d, {}, {}};
  for (long i = 0; i < map.d; ++i)
    for (long j = 0; j < map.d; ++j) q.a.push_back(quad(map.b.at(i, j)));
  for (const DD& x : map.shift) q.shift.push_back(quad(x));
  return q;
}

enum class Kind { kTurns, kDecays, kGrows, kJordan, kFollows, kAny, kCount };

AffineMap random_map(Kind kind, long d, Random& random) {
  AffineMap map;
  map.d = d;
  map.b = DDMatrix(d, d);
  map.shift.resize(u(d));
  for (DD& x : map.shift) x = random();
  for (long i = 0; i < d; ++i)
    for (long j = 0; j < d; ++j) {
      double x = 0;
      switch (kind) {
        case Kind::kTurns: x = i == j ? -1e-4 : j == i + 1 ? 0.01 : i == j + 1 ? -0.01 : 0; break;
        case Kind::kDecays: x = (i == j ? -0.4 : 0) + 0.05 * random(); break;
        case Kind::kGrows: x = (i == j ? 0.02 : 0) + 0.01 * random(); break;
        case Kind::kJordan: x = j == i + 1 ? 1 : 0; break;
        case Kind::kFollows: x = j < i ? 1e6 * random() : i == j ? -0.01 * std::fabs(random()) : 0; break;
        default: x = 0.1 * random() - (i == j ? 0.2 : 0); break;
      }
      map.b.set(i, j, x);
    }
  return map;
}

struct Exact {
  std::vector<Quad> phi, psi, end;
};
Exact add_up(const QuadMap& a, const QuadMap& b, std::int64_t steps, const std::vector<double>& z0,
             const std::vector<double>& c_end) {
  // The cotangents, the last first.
  std::vector<std::vector<Quad>> c{{c_end.begin(), c_end.end()}};
  for (std::int64_t k = 1; k < steps; ++k) {
    std::vector<Quad> next = c.back();
    for (long j = 0; j < b.d; ++j)
      for (long i = 0; i < b.d; ++i) next[u(j)] = next[u(j)] + c.back()[u(i)] * b.a[u(i * b.d + j)];
    c.push_back(next);
  }
  Exact out{std::vector<Quad>(u(a.d * b.d)), std::vector<Quad>(u(b.d)), std::vector<Quad>(u(a.d))};
  std::vector<Quad> z(z0.begin(), z0.end());
  for (std::int64_t k = 0; k < steps; ++k) {
    const std::vector<Quad>& now = c[static_cast<std::size_t>(steps - 1 - k)];
    for (long j = 0; j < b.d; ++j) {
      out.psi[u(j)] = out.psi[u(j)] + now[u(j)];
      for (long i = 0; i < a.d; ++i)
        out.phi[u(i * b.d + j)] = out.phi[u(i * b.d + j)] + (z[u(i)] - Quad(z0[u(i)])) * now[u(j)];
    }
    std::vector<Quad> next = z;
    for (long i = 0; i < a.d; ++i) {
      next[u(i)] = next[u(i)] + a.shift[u(i)];
      for (long j = 0; j < a.d; ++j) next[u(i)] = next[u(i)] + a.a[u(i * a.d + j)] * z[u(j)];
    }
    z = next;
  }
  for (long i = 0; i < a.d; ++i) out.end[u(i)] = z[u(i)] - Quad(z0[u(i)]);
  return out;
}

double off(double x, Quad exact) { return std::fabs(static_cast<double>(Quad(x) - exact)); }

}  // namespace

TEST_CASE("sums over affine steps are those added up, within their bounds, also of a map that is off") {
  Random random;
  constexpr double kOff = 1e-9;
  double tightest = 1e300;
  for (int trial = 0; trial < 300; ++trial) {
    const auto kind_of = [&] { return static_cast<Kind>(random.engine() % static_cast<int>(Kind::kCount)); };
    const Kind kind_a = kind_of(), kind_b = kind_of();
    const long n = 1 + static_cast<long>(random.engine() % 5), m = 1 + static_cast<long>(random.engine() % 5);
    const std::int64_t steps = std::vector<std::int64_t>{1, 2, 3, 7, 64, 100, 511}[random.engine() % 7];
    const AffineMap a = random_map(kind_a, n, random), b = random_map(kind_b, m, random);
    std::vector<double> z0, c;
    for (long i = 0; i < n; ++i) z0.push_back(random());
    for (long i = 0; i < m; ++i) c.push_back(random());
    const Exact exact = add_up(in_quad(a), in_quad(b), steps, z0, c);
    for (const bool moved : {false, true}) {
      AffineMap maps[] = {a, b};
      if (moved)
        for (AffineMap& map : maps) {
          map.relative_error = kOff;
          for (long i = 0; i < map.d; ++i) {
            map.shift[u(i)] = map.shift[u(i)] * (1.0 + 0.5 * kOff * std::sin(random()));
            // Of A, not of A - I.
            for (long j = 0; j < map.d; ++j)
              if (const DD x = map.b.at(i, j) + (i == j ? 1.0 : 0.0); x.hi != 0.0)
                map.b.set(i, j, map.b.at(i, j) + x * (0.1 * kOff * std::sin(random())));
          }
        }
      const StepPowers of_a = step_powers(maps[0], steps), of_b = step_powers(maps[1], steps);
      REQUIRE(of_a.reason + of_b.reason == "");
      const StateCourse states = state_course(of_a, z0.data());
      const CotangentCourse cotangents = cotangent_course(of_b, steps, c.data());
      for (const bool closely : {false, true}) {
        const BlockSums sums = block_sums(states, cotangents, steps, closely);
        CAPTURE(trial);
        CAPTURE(static_cast<int>(kind_a));
        CAPTURE(static_cast<int>(kind_b));
        CAPTURE(steps);
        CAPTURE(moved);
        double worst = 0, bound = 0, size = 0;
        bool within = true;
        for (std::size_t i = 0; i < sums.phi.size(); ++i) {
          const double e = off(sums.phi[i], exact.phi[i]);
          within = within && e <= sums.phi_error[i] + 0x1p-52 * std::fabs(sums.phi[i]);
          worst = std::max(worst, e);
          bound = std::max(bound, sums.phi_error[i]);
          size = std::max(size, std::fabs(sums.phi[i]));
        }
        CHECK(within);
        for (std::size_t j = 0; j < sums.psi.size(); ++j)
          CHECK(off(sums.psi[j], exact.psi[j]) <= sums.psi_error[j] + 0x1p-52 * std::fabs(sums.psi[j]));
        if (!moved) {
          for (std::size_t i = 0; i < sums.phi.size(); ++i)
            CHECK(off(sums.phi[i], exact.phi[i]) <= 0x1p-52 * std::fabs(sums.phi[i]) + 1e-24 * size);
          for (std::size_t i = 0; i < states.end.size(); ++i)
            CHECK(off(states.end[i], exact.end[i]) <= 1e-15 * std::fabs(states.end[i]) + 1e-24);
        } else if (worst > 0) {
          tightest = std::min(tightest, bound / worst);
        }
      }
    }
  }
  MESSAGE("bound / error at least ", tightest);
}

TEST_CASE("sums over a flow are its integrals: against many short steps of its series in quad") {
  Random random;
  for (int trial = 0; trial < 20; ++trial) {
    const long n = 1 + static_cast<long>(random.engine() % 4), m = 1 + static_cast<long>(random.engine() % 4);
    const std::int64_t steps = 1 + static_cast<std::int64_t>(random.engine() % 20);
    const double h = trial % 3 == 0 ? -0.05 : 0.03;
    DDMatrix ga(n, n), gb(m, m);
    std::vector<DD> g(u(n));
    for (long i = 0; i < n; ++i) {
      g[u(i)] = random();
      for (long j = 0; j < n; ++j) ga.set(i, j, random());
    }
    for (long i = 0; i < m; ++i)
      for (long j = 0; j < m; ++j) gb.set(i, j, random());
    std::vector<double> z0, c;
    for (long i = 0; i < n; ++i) z0.push_back(random());
    for (long i = 0; i < m; ++i) c.push_back(random());
    const int doublings = std::max(doublings_of(ga, h, steps), doublings_of(gb, h, steps));
    const std::vector<DD> none(u(m));
    const StepPowers of_a = flow_powers(ga, g, h, steps, doublings),
                     of_b = flow_powers(gb, none, h, steps, doublings);
    const BlockSums sums =
        block_sums(state_course(of_a, z0.data()), cotangent_course(of_b, steps, c.data()), steps, true);
    // Phi' = Phi B + w c^T, w' = A w + v, in one Taylor series of the time t: t |A| is at most 20.
    const Quad t = Quad(h) * Quad(static_cast<double>(steps));
    std::vector<Quad> phi(u(n * m)), f(u(n * m)), w(u(n));
    for (int k = 1; k < 160; ++k) {
      const Quad factor = t * (Quad(1.0) / Quad(static_cast<double>(k)));
      std::vector<Quad> next(u(n * m)), next_w(u(n));
      for (long i = 0; i < n; ++i) {
        for (long j = 0; j < m; ++j) {
          Quad x = w[u(i)] * Quad(c[u(j)]);
          for (long l = 0; l < m; ++l) x = x + f[u(i * m + l)] * quad(gb.at(l, j));
          next[u(i * m + j)] = x * factor;
          phi[u(i * m + j)] = phi[u(i * m + j)] + next[u(i * m + j)];
        }
        Quad x = k == 1 ? quad(g[u(i)]) : Quad(0.0);
        for (long l = 0; l < n; ++l) x = x + quad(ga.at(i, l)) * (k == 1 ? Quad(z0[u(l)]) : w[u(l)]);
        next_w[u(i)] = x * factor;
      }
      f = next;
      w = next_w;
    }
    double size = 0;
    for (const double x : sums.phi) size = std::max(size, std::fabs(x));
    for (std::size_t i = 0; i < phi.size(); ++i) {
      const Quad exact = phi[i] * (Quad(1.0) / Quad(h));
      CHECK(off(sums.phi[i], exact) <= 0x1p-52 * std::fabs(sums.phi[i]) + 1e-22 * size);
      CHECK(off(sums.phi[i], exact) <= 0x1p-52 * std::fabs(sums.phi[i]) + sums.phi_error[i] + 1e-25 * size);
    }
  }
}
