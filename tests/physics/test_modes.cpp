// Normal-mode jumps against loops in quad precision (the same double inputs), against each other and closed
// forms.
//
// Everything here takes about 3 s in a release build, 30 s under ASan. The biggest cases (n = 1000) run only with
// TINYPHYS_LONG_TESTS=1 in the environment; sanitizer builds take minutes for those.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "linalg/propagator.hpp"
#include "propagate/mode_kernel.hpp"

__extension__ typedef __float128 Quad;

namespace {

using namespace tinyphys;

constexpr double kInf = std::numeric_limits<double>::infinity();

bool long_tests() {
  const char* set = std::getenv("TINYPHYS_LONG_TESTS");
  return set != nullptr && std::string(set) == "1";
}

std::size_t u(long i) { return static_cast<std::size_t>(i); }
Quad absq(Quad x) { return x < 0 ? -x : x; }
Quad quad(DD x) { return static_cast<Quad>(x.hi) + static_cast<Quad>(x.lo); }

// Dense double data of one system; K and Minv full, so that any structure can be written down.
struct System {
  long n;
  std::vector<double> k, minv, g, v, q, p;
  explicit System(long size)
      : n(size), k(u(size * size)), minv(u(size * size)), g(u(size)), v(u(size)), q(u(size)), p(u(size)) {}
  double& K(long i, long j) { return k[u(i * n + j)]; }
  double& M(long i, long j) { return minv[u(i * n + j)]; }
  void random_state(std::mt19937_64& engine) {
    std::normal_distribution<double> normal;
    for (double& x : q) x = normal(engine);
    for (double& x : p) x = normal(engine);
  }
};

SparseDD sparse(long n, const std::vector<double>& a) {
  SparseDD s;
  s.n = n;
  s.row_start.push_back(0);
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < n; ++j) {
      if (a[u(i * n + j)] == 0.0) continue;
      s.col.push_back(static_cast<int>(j));
      s.value.push_back(a[u(i * n + j)]);
    }
    s.row_start.push_back(static_cast<long>(s.col.size()));
  }
  return s;
}

NormalModesResult build(const System& s) {
  const std::vector<DD> g(s.g.begin(), s.g.end()), v(s.v.begin(), s.v.end());
  return NormalModes::build(sparse(s.n, s.k), sparse(s.n, s.minv), g, v);
}

template <class T> struct State { std::vector<T> q, p; };

// Solves A x = b by elimination with partial pivoting.
template <class T> std::vector<T> solve(std::vector<T> a, std::vector<T> b) {
  const long n = static_cast<long>(b.size());
  for (long c = 0; c < n; ++c) {
    long best = c;
    for (long i = c; i < n; ++i) {
      const T x = a[u(i * n + c)], y = a[u(best * n + c)];
      if ((x < 0 ? -x : x) > (y < 0 ? -y : y)) best = i;
    }
    for (long j = 0; j < n; ++j) std::swap(a[u(c * n + j)], a[u(best * n + j)]);
    std::swap(b[u(c)], b[u(best)]);
    for (long i = c + 1; i < n; ++i) {
      const T f = a[u(i * n + c)] / a[u(c * n + c)];
      for (long j = c; j < n; ++j) a[u(i * n + j)] -= f * a[u(c * n + j)];
      b[u(i)] -= f * b[u(c)];
    }
  }
  for (long i = n - 1; i >= 0; --i) {
    for (long j = i + 1; j < n; ++j) b[u(i)] -= a[u(i * n + j)] * b[u(j)];
    b[u(i)] /= a[u(i * n + i)];
  }
  return b;
}

// The plain loop in number type T, as a user would write it.
template <class T> State<T> loop(const System& s, double step, std::int64_t count, Integrator kind) {
  const long n = s.n;
  const std::vector<T> k(s.k.begin(), s.k.end()), m(s.minv.begin(), s.minv.end());
  State<T> z{{s.q.begin(), s.q.end()}, {s.p.begin(), s.p.end()}};
  const T h = step, half = h / 2;
  bool diagonal_mass = true;
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < n; ++j) diagonal_mass = diagonal_mass && (i == j || s.minv[u(i * n + j)] == 0.0);
  }
  const auto kick = [&](const std::vector<T>& at, T dt) {
    for (long i = 0; i < n; ++i) {
      T f = T(s.g[u(i)]);
      for (long j = 0; j < n; ++j) f += k[u(i * n + j)] * at[u(j)];
      z.p[u(i)] -= dt * f;
    }
  };
  const auto velocity = [&](const std::vector<T>& p, long i) {
    if (diagonal_mass) return T(m[u(i * n + i)] * p[u(i)] + T(s.v[u(i)]));
    T w = T(s.v[u(i)]);
    for (long j = 0; j < n; ++j) w += m[u(i * n + j)] * p[u(j)];
    return w;
  };
  const auto drift = [&](T dt) {
    for (long i = 0; i < n; ++i) z.q[u(i)] += dt * velocity(z.p, i);
  };
  std::vector<T> middle_matrix;
  if (kind == Integrator::ImplicitMidpoint) {
    middle_matrix.assign(u(n * n), T(0));
    for (long i = 0; i < n; ++i) {
      for (long l = 0; l < n; ++l) {
        for (long j = 0; j < n; ++j)
          middle_matrix[u(i * n + j)] += half * half * m[u(i * n + l)] * k[u(l * n + j)];
      }
      middle_matrix[u(i * n + i)] += T(1);
    }
  }
  for (std::int64_t step_index = 0; step_index < count; ++step_index) {
    if (kind == Integrator::LeapfrogKDK) {
      kick(z.q, half);
      drift(h);
      kick(z.q, half);
    } else if (kind == Integrator::LeapfrogDKD) {
      drift(half);
      kick(z.q, h);
      drift(half);
    } else if (kind != Integrator::ImplicitMidpoint) {
      for (const Substep& part : row_of(kind).substeps) {
        if (part.part == Part::kKick)
          kick(z.q, T(part.coefficient) * h);
        else
          drift(T(part.coefficient) * h);
      }
    } else {
      std::vector<T> p = z.p, rhs(u(n));
      for (long i = 0; i < n; ++i) p[u(i)] -= half * T(s.g[u(i)]);
      for (long i = 0; i < n; ++i) rhs[u(i)] = z.q[u(i)] + half * velocity(p, i);
      const std::vector<T> middle = solve(middle_matrix, rhs);
      kick(middle, h);
      for (long i = 0; i < n; ++i) z.q[u(i)] = middle[u(i)] + (middle[u(i)] - z.q[u(i)]);
    }
  }
  return z;
}

// exp(t A) of the augmented flow matrix by scaling, Taylor and squaring, all in quad.
State<Quad> exact_flow(const System& s, Quad t) {
  const long n = s.n, d = 2 * n + 1;
  std::vector<Quad> a(u(d * d), Quad(0)), e(u(d * d), Quad(0)), term, next(u(d * d));
  Quad norm = 0;
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < n; ++j) {
      a[u(i * d + n + j)] = t * static_cast<Quad>(s.minv[u(i * n + j)]);
      a[u((n + i) * d + j)] = -t * static_cast<Quad>(s.k[u(i * n + j)]);
    }
    a[u(i * d + 2 * n)] = t * static_cast<Quad>(s.v[u(i)]);
    a[u((n + i) * d + 2 * n)] = -t * static_cast<Quad>(s.g[u(i)]);
  }
  for (const Quad x : a) norm += absq(x);
  int squarings = 0;
  for (; norm > 0.25; norm /= 2) ++squarings;
  for (int i = 0; i < squarings; ++i) {
    for (Quad& x : a) x /= 2;
  }
  const auto product = [&](const std::vector<Quad>& x, const std::vector<Quad>& y) {
    std::fill(next.begin(), next.end(), Quad(0));
    for (long i = 0; i < d; ++i) {
      for (long l = 0; l < d; ++l) {
        for (long j = 0; j < d; ++j) next[u(i * d + j)] += x[u(i * d + l)] * y[u(l * d + j)];
      }
    }
    return next;
  };
  // e = exp(a) - 1 throughout: squaring is 2 e + e^2.
  term = a;
  e = a;
  for (int k = 2; k < 30; ++k) {
    term = product(term, a);
    for (Quad& x : term) x /= k;
    for (std::size_t i = 0; i < e.size(); ++i) e[i] += term[i];
  }
  for (int k = 0; k < squarings; ++k) {
    const std::vector<Quad> square = product(e, e);
    for (std::size_t i = 0; i < e.size(); ++i) e[i] = 2 * e[i] + square[i];
  }
  State<Quad> z{{s.q.begin(), s.q.end()}, {s.p.begin(), s.p.end()}};
  const State<Quad> z0 = z;
  for (long i = 0; i < d - 1; ++i) {
    Quad sum = e[u(i * d + 2 * n)];
    for (long j = 0; j < n; ++j) sum += e[u(i * d + j)] * z0.q[u(j)] + e[u(i * d + n + j)] * z0.p[u(j)];
    (i < n ? z.q[u(i)] : z.p[u(i - n)]) += sum;
  }
  return z;
}

struct Doubles {
  std::vector<double> q, p;
};

Doubles jump(const NormalModes& modes, const System& s, double h, std::int64_t steps, Integrator kind) {
  const auto made = modes.jump(h, steps, kind);
  REQUIRE(made->reason == "");
  Doubles out{s.q, s.p};
  modes.apply(*made, s.q.data(), s.p.data(), out.q.data(), out.p.data());
  return out;
}

template <class T> double relative(const std::vector<T>& got, const std::vector<Quad>& want) {
  Quad diff = 0, norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const Quad d = static_cast<Quad>(got[i]) - want[i];
    diff += d * d;
    norm += want[i] * want[i];
  }
  if (diff == 0) return 0.0;
  return std::sqrt(static_cast<double>(diff / norm));
}

template <class S> double error(const S& got, const State<Quad>& want) {
  return std::max(relative(got.q, want.q), relative(got.p, want.p));
}

// Springs between neighbours and to the ground.
System chain(long n, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> uniform(0.5, 2.0);
  System s(n);
  for (long i = 0; i < n; ++i) {
    s.M(i, i) = 1.0 / uniform(engine);
    s.K(i, i) += uniform(engine);
    if (i + 1 < n) {
      const double spring = uniform(engine);
      s.K(i, i) += spring;
      s.K(i + 1, i + 1) += spring;
      s.K(i, i + 1) -= spring;
      s.K(i + 1, i) -= spring;
    }
  }
  s.random_state(engine);
  return s;
}

// Positive definite dense couplings, random masses.
System dense(long n, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(0.5, 2.0);
  System s(n);
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < i; ++j) s.K(i, j) = s.K(j, i) = normal(engine) / std::sqrt(static_cast<double>(n));
    s.K(i, i) = 3.0 + uniform(engine);
    s.M(i, i) = uniform(engine);
  }
  s.random_state(engine);
  return s;
}

void add_linear_terms(System& s, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (double& x : s.g) x = normal(engine);
  for (double& x : s.v) x = normal(engine);
}

// A dense positive definite Minv.
void dense_mass(System& s, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (long i = 0; i < s.n; ++i) {
    for (long j = 0; j < i; ++j)
      s.M(i, j) = s.M(j, i) = 0.3 * normal(engine) / std::sqrt(static_cast<double>(s.n));
    s.M(i, i) = 1.5;
  }
}

constexpr Integrator kLoops[] = {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD,
                                 Integrator::ImplicitMidpoint};

}  // namespace

TEST_CASE("modes: a jump is at least as close to the quad loop as the double loop is") {
  const auto compare = [](const System& s, double h, std::initializer_list<std::int64_t> counts,
                          Integrator kind) {
    const NormalModesResult built = build(s);
    REQUIRE(built.modes);
    for (const std::int64_t steps : counts) {
      CAPTURE(steps);
      CAPTURE(s.n);
      const State<Quad> want = loop<Quad>(s, h, steps, kind);
      const double by_jump = error(jump(*built.modes, s, h, steps, kind), want);
      const double by_loop = error(loop<double>(s, h, steps, kind), want);
      CHECK(by_jump <= by_loop);
      CHECK(by_jump <= built.modes->jump(h, steps, kind)->report.error_bound);
      // The final rounding to double is all that is left.
      CHECK(by_jump <= 1.2e-16);
    }
  };
  for (const long n : {8L, 30L}) {
    for (const Integrator kind : {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD}) {
      compare(chain(n, 1), 0.1, {1, 2, 3, 1000}, kind);
      compare(dense(n, 2), 0.1, {1, 2, 3, 1000}, kind);
    }
  }
  compare(chain(8, 3), 0.1, {10000}, Integrator::LeapfrogKDK);
  compare(dense(12, 4), 0.15, {10000}, Integrator::LeapfrogDKD);
  compare(chain(100, 5), 0.2, {1, 100}, Integrator::LeapfrogKDK);
  compare(dense(60, 6), 0.1, {1, 1000}, Integrator::LeapfrogKDK);
  compare(chain(8, 7), 0.3, {1, 2, 3, 300}, Integrator::ImplicitMidpoint);
  compare(dense(12, 8), 0.3, {1, 100}, Integrator::ImplicitMidpoint);
  System biased = chain(12, 9);
  add_linear_terms(biased, 10);
  for (const Integrator kind : kLoops) compare(biased, 0.1, {1, 2, 3, 500}, kind);
  System coupled = dense(12, 11);
  add_linear_terms(coupled, 12);
  dense_mass(coupled, 13);
  for (const Integrator kind : kLoops) compare(coupled, 0.1, {1, 2, 3, 300}, kind);
  compare(biased, -0.1, {1, 2, 300}, Integrator::LeapfrogKDK);
}

TEST_CASE("modes: zero steps return the bits, h = 0 too; N steps forward and back return to the start") {
  System s = dense(20, 21);
  add_linear_terms(s, 22);
  s.q[3] = -0.0;
  const NormalModesResult built = build(s);
  REQUIRE(built.modes);
  for (const Integrator kind :
       {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD, Integrator::ImplicitMidpoint, Integrator::Exact}) {
    const Doubles same = jump(*built.modes, s, 0.1, 0, kind);
    for (long i = 0; i < s.n; ++i) {
      CHECK(same.q[u(i)] == s.q[u(i)]);
      CHECK(std::signbit(same.q[u(i)]) == std::signbit(s.q[u(i)]));
      CHECK(same.p[u(i)] == s.p[u(i)]);
    }
    CHECK(jump(*built.modes, s, 0.0, 100, kind).q == s.q);
    std::vector<DD> q(s.q.begin(), s.q.end()), p(s.p.begin(), s.p.end());
    built.modes->apply(*built.modes->jump(0.1, 1'000'000, kind), q.data(), p.data(), q.data(), p.data());
    built.modes->apply(*built.modes->jump(-0.1, 1'000'000, kind), q.data(), p.data(), q.data(), p.data());
    for (long i = 0; i < s.n; ++i) {
      CHECK(q[u(i)].hi == doctest::Approx(s.q[u(i)]).epsilon(1e-16));
      CHECK(std::fabs((p[u(i)] - s.p[u(i)]).hi) <= 1e-22);
    }
  }
}

TEST_CASE("modes: exact flow against the quad matrix exponential") {
  System s = chain(6, 31);
  add_linear_terms(s, 32);
  System saddle = s;
  saddle.K(2, 2) = -3.0;
  System coupled = s;
  dense_mass(coupled, 33);
  for (const System& at : {s, saddle, coupled}) {
    const NormalModesResult built = build(at);
    REQUIRE(built.modes);
    for (const double t : {1e-9, 1e-3, 0.1, 1.0, 7.0}) {
      CAPTURE(t);
      CHECK(error(jump(*built.modes, at, t, 1, Integrator::Exact), exact_flow(at, t)) <= 1.2e-16);
      CHECK(error(jump(*built.modes, at, t, 3, Integrator::Exact),
                  exact_flow(at, 3 * static_cast<Quad>(t))) <= 1.2e-16);
    }
  }
}

TEST_CASE("modes: N = 1e9 against Chebyshev doubling in quad") {
  // T_2N = 2 T_N^2 - 1, U_{2N-1} = 2 T_N U_{N-1}; T_{N+1} = C T_N - (1 - C^2) U_{N-1}, U_N = T_N + C U_{N-1},
  // in C = 1 - h^2 Minv K / 2, with T_N - 1 kept so that small h loses nothing.
  const long n = 50;
  const double h = 0.1;
  const std::int64_t steps = 1'000'000'000;
  const System s = dense(n, 41);
  std::vector<Quad> a(u(n * n));  // C - 1
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < n; ++j) {
      a[u(i * n + j)] = -static_cast<Quad>(h) * static_cast<Quad>(h) / 2 *
                        static_cast<Quad>(s.minv[u(i * n + i)]) * static_cast<Quad>(s.k[u(i * n + j)]);
    }
  }
  const auto product = [](const std::vector<Quad>& x, const std::vector<Quad>& y) {
    std::vector<Quad> z(u(n * n), Quad(0));
    for (long i = 0; i < n; ++i) {
      for (long l = 0; l < n; ++l) {
        for (long j = 0; j < n; ++j) z[u(i * n + j)] += x[u(i * n + l)] * y[u(l * n + j)];
      }
    }
    return z;
  };
  const auto combine = [](std::vector<Quad> x, Quad f, const std::vector<Quad>& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += f * y[i];
    return x;
  };
  // 1 - C^2 = -(2 a + a^2).
  const std::vector<Quad> one_minus_c2 =
      combine(combine(std::vector<Quad>(u(n * n), Quad(0)), -2, a), -1, product(a, a));
  std::vector<Quad> t(u(n * n), Quad(0)), w(u(n * n), Quad(0));  // T - 1 and U_{N-1} at N = 0
  for (int bit = 29; bit >= 0; --bit) {
    // U_{2N-1} = 2 (1 + t) w; T_2N - 1 = 4 t + 2 t^2.
    const std::vector<Quad> tw = product(t, w), tt = product(t, t);
    for (std::size_t i = 0; i < t.size(); ++i) {
      w[i] = 2 * w[i] + 2 * tw[i];
      t[i] = 4 * t[i] + 2 * tt[i];
    }
    if ((steps >> bit & 1) != 0) {
      const std::vector<Quad> at = product(a, t), cw = product(one_minus_c2, w), aw = product(a, w);
      for (std::size_t i = 0; i < t.size(); ++i) {
        const Quad t_old = t[i];
        t[i] = t_old + a[i] + at[i] - cw[i];
        w[i] = w[i] + aw[i] + t_old;
      }
      for (long i = 0; i < n; ++i) w[u(i * n + i)] += 1;
    }
  }
  State<Quad> want{std::vector<Quad>(u(n)), std::vector<Quad>(u(n))};
  std::vector<Quad> wq(u(n), Quad(0)), r(u(n));
  for (long i = 0; i < n; ++i) {
    Quad q = s.q[u(i)], p = s.p[u(i)];
    for (long j = 0; j < n; ++j) {
      q += t[u(i * n + j)] * static_cast<Quad>(s.q[u(j)]) + static_cast<Quad>(h) * w[u(i * n + j)] *
                                                                static_cast<Quad>(s.minv[u(j * n + j)]) *
                                                                static_cast<Quad>(s.p[u(j)]);
      p += t[u(j * n + i)] * static_cast<Quad>(s.p[u(j)]);
      wq[u(i)] += w[u(i * n + j)] * static_cast<Quad>(s.q[u(j)]);
    }
    want.q[u(i)] = q;
    want.p[u(i)] = p;
  }
  // p -= h K (1 - h^2 Minv K / 4) U q; 1 - h^2 Minv K / 4 = 1 + a / 2.
  for (long i = 0; i < n; ++i) {
    r[u(i)] = wq[u(i)];
    for (long j = 0; j < n; ++j) r[u(i)] += a[u(i * n + j)] / 2 * wq[u(j)];
  }
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < n; ++j)
      want.p[u(i)] -= static_cast<Quad>(h) * static_cast<Quad>(s.k[u(i * n + j)]) * r[u(j)];
  }
  const NormalModesResult built = build(s);
  REQUIRE(built.modes);
  const double e = error(jump(*built.modes, s, h, steps, Integrator::LeapfrogKDK), want);
  MESSAGE("n = 50, N = 1e9: relative error " << e);
  CHECK(e <= 1e-15);  // promised: 1e-11
  CHECK(built.modes->jump(h, steps, Integrator::LeapfrogKDK)->report.error_bound <= 1e-11);
}

TEST_CASE("modes: singular K, constant forces, free particles") {
  // A free chain: rows of K sum to zero, the centre of mass falls.
  System s(10);
  std::mt19937_64 engine(51);
  std::uniform_real_distribution<double> uniform(0.5, 2.0);
  for (long i = 0; i < s.n; ++i) {
    s.M(i, i) = uniform(engine);
    if (i + 1 == s.n) continue;
    const double spring = 1.0 + static_cast<double>(engine() % 8) / 8.0;  // exact sums
    s.K(i, i) += spring;
    s.K(i + 1, i + 1) += spring;
    s.K(i, i + 1) -= spring;
    s.K(i + 1, i) -= spring;
  }
  s.random_state(engine);
  add_linear_terms(s, 52);
  const NormalModesResult built = build(s);
  REQUIRE(built.modes);
  for (const Integrator kind : kLoops) {
    for (const std::int64_t steps : {1L, 2L, 777L}) {
      CHECK(error(jump(*built.modes, s, 0.1, steps, kind), loop<Quad>(s, 0.1, steps, kind)) <= 1.2e-16);
    }
  }
  // Momentum falls by N h sum g whatever the springs do.
  const Doubles far = jump(*built.modes, s, 0.1, 1'000'000'000, Integrator::LeapfrogKDK);
  Quad momentum = 0, expected = 0;
  for (long i = 0; i < s.n; ++i) {
    momentum += far.p[u(i)];
    expected +=
        static_cast<Quad>(s.p[u(i)]) - static_cast<Quad>(0.1) * 1000000000 * static_cast<Quad>(s.g[u(i)]);
  }
  CHECK(static_cast<double>(absq(momentum - expected) / absq(expected)) <= 1e-14);

  // One free particle, one falling one, one at rest without mass term: closed forms.
  System f(3);
  f.M(0, 0) = 0.7;
  f.M(1, 1) = 1.3;
  f.g = {0.0, 9.81, 2.0};
  f.v = {0.0, 0.25, 0.5};
  f.q = {1.0, 2.0, 3.0};
  f.p = {-0.5, 0.75, 4.0};
  const NormalModesResult free = build(f);
  REQUIRE(free.modes);
  for (const Integrator kind :
       {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD, Integrator::ImplicitMidpoint, Integrator::Exact}) {
    const std::int64_t steps = 1'000'003;
    const Quad t = static_cast<Quad>(0.01) * steps;
    const Doubles z = jump(*free.modes, f, 0.01, steps, kind);
    CHECK(z.q[0] == static_cast<double>(1 + t * static_cast<Quad>(0.7) * static_cast<Quad>(-0.5)));
    CHECK(z.p[0] == -0.5);
    CHECK(z.q[1] == static_cast<double>(
                        2 + t * (static_cast<Quad>(1.3) * static_cast<Quad>(0.75) + static_cast<Quad>(0.25)) -
                        t * t / 2 * static_cast<Quad>(1.3) * static_cast<Quad>(9.81)));
    CHECK(z.p[1] == static_cast<double>(static_cast<Quad>(0.75) - t * static_cast<Quad>(9.81)));
    CHECK(z.q[2] == static_cast<double>(3 + t / 2));
    CHECK(z.p[2] == static_cast<double>(4 - 2 * t));
  }
}

TEST_CASE("modes: every lambda h^2 of a single mode against the quad loop") {
  // c from far above 1 through 1, 0, -1 to far below; the exact limits and their neighbours included.
  for (const double k : {-5.0,
                         -1e-3,
                         -1e-9,
                         -1e-30,
                         0.0,
                         1e-30,
                         1e-9,
                         1e-3,
                         1.0,
                         1.999,
                         2.0,
                         2.001,
                         3.9,
                         4.0 - 1e-12,
                         3.9999999999999996,
                         4.0,
                         4.000000000000001,
                         4.0 + 1e-12,
                         4.1,
                         50.0}) {
    System s(1);
    s.K(0, 0) = k;
    s.M(0, 0) = 1.0;
    s.g[0] = 0.3;
    s.v[0] = -0.2;
    s.q[0] = 1.1;
    s.p[0] = 0.7;
    const NormalModesResult built = build(s);
    REQUIRE(built.modes);
    for (const Integrator kind : kLoops) {
      if (kind == Integrator::ImplicitMidpoint && k == -4.0) continue;
      for (const double h : {1.0, -1.0, 0.5}) {
        for (const std::int64_t steps : {1L, 2L, 3L, 10L, 63L, 500L}) {
          CAPTURE(k);
          CAPTURE(h);
          CAPTURE(steps);
          CAPTURE(static_cast<int>(kind));
          const State<Quad> want = loop<Quad>(s, h, steps, kind);
          const Doubles got = jump(*built.modes, s, h, steps, kind);
          if (absq(want.q[0]) > static_cast<Quad>(1e300) || absq(want.p[0]) > static_cast<Quad>(1e300)) {
            if (std::isinf(static_cast<double>(want.q[0]))) CHECK(got.q[0] == static_cast<double>(want.q[0]));
            continue;
          }
          CHECK(relative(got.q, want.q) <= 4e-16);
          CHECK(relative(got.p, want.p) <= 4e-16);
        }
      }
    }
  }
}

TEST_CASE("modes: every lambda h^2 in a coupled pair against the quad loop") {
  for (const double k : {-5.0, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 1.0, 1.999, 2.0, 3.9, 4.0 - 1e-12, 4.0,
                         4.0 + 1e-12, 4.1, 50.0}) {
    // Eigenvalues k and 0.7 with Minv = 1; a null direction of Minv in the second system.
    System s(3);
    s.K(0, 0) = s.K(1, 1) = 0.5 * (k + 0.7);
    s.K(0, 1) = s.K(1, 0) = 0.5 * (k - 0.7);
    s.M(0, 0) = s.M(1, 1) = 1.0;
    s.g = {0.3, -0.4, 0.0};
    s.v = {-0.2, 0.1, 0.0};
    s.q = {1.1, -0.6, 0.2};
    s.p = {0.7, 0.9, -0.3};
    System null = s;
    null.K(1, 2) = null.K(2, 1) = 0.5;
    for (const System& at : {s, null}) {
      const NormalModesResult built = build(at);
      REQUIRE(built.modes);
      for (const Integrator kind : kLoops) {
        for (const double h : {1.0, -0.5}) {
          for (const std::int64_t steps : {1L, 2L, 3L, 10L, 100L}) {
            CAPTURE(k);
            CAPTURE(h);
            CAPTURE(steps);
            CAPTURE(static_cast<int>(kind));
            const State<Quad> want = loop<Quad>(at, h, steps, kind);
            const Doubles got = jump(*built.modes, at, h, steps, kind);
            CHECK(relative(got.q, want.q) <= 2.3e-16);
            CHECK(relative(got.p, want.p) <= 2.3e-16);
          }
        }
      }
    }
  }
}

TEST_CASE("modes: growth goes to infinity of the right sign, never to NaN") {
  System s = dense(12, 61);
  s.K(4, 4) = 60.0;  // h omega > 2 at h = 0.5
  const NormalModesResult built = build(s);
  REQUIRE(built.modes);
  for (const Integrator kind : {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD}) {
    const State<Quad> want = loop<Quad>(s, 0.5, 30, kind);
    CHECK(error(jump(*built.modes, s, 0.5, 30, kind), want) <= 1.2e-16);
    CHECK(built.modes->jump(0.5, 30, kind)->report.unstable_modes == 1);
    for (const std::int64_t steps : {1000L, 1001L, 1'000'000'000'000L, std::int64_t{1} << 62}) {
      const Doubles z = jump(*built.modes, s, 0.5, steps, kind);
      const Doubles before = jump(*built.modes, s, 0.5, 200 + (steps & 1), kind);
      long infinite = 0;
      for (long i = 0; i < s.n; ++i) {
        CHECK_FALSE(std::isnan(z.q[u(i)]));
        CHECK_FALSE(std::isnan(z.p[u(i)]));
        infinite += std::isinf(z.q[u(i)]) + std::isinf(z.p[u(i)]);
        // The dominant mode sets the sign, alternating from step to step.
        CHECK(std::signbit(z.q[u(i)]) == std::signbit(before.q[u(i)]));
      }
      CHECK(infinite == 2 * s.n);
      CHECK(built.modes->jump(0.5, steps, kind)->report.log10_growth > 308.0);
    }
  }
  // A saddle under all kinds; with an unrelated stable oscillator that must keep its value.
  System saddle(3);
  saddle.K(0, 0) = saddle.K(1, 1) = -1.0;
  saddle.K(0, 1) = saddle.K(1, 0) = 0.25;
  saddle.K(2, 2) = 1.0;
  for (long i = 0; i < 3; ++i) saddle.M(i, i) = 1.0;
  saddle.q = {1.0, 1.0, 0.5};
  const NormalModesResult at = build(saddle);
  REQUIRE(at.modes);
  for (const Integrator kind :
       {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD, Integrator::ImplicitMidpoint, Integrator::Exact}) {
    const Doubles z = jump(*at.modes, saddle, 0.1, 10'000'000, kind);
    CHECK(z.q[0] == kInf);
    CHECK(z.q[1] == kInf);
    CHECK(z.p[0] == kInf);
    CHECK(std::fabs(z.q[2]) <= 0.51);
  }
  // Tiny amplitudes are brought back into range by the growth: e^(t) 1e-300.
  saddle.q = {1e-300, 1e-300, 0.0};
  const Doubles grown = jump(*at.modes, saddle, 1.0, 800, Integrator::Exact);
  const double expected = std::exp(std::sqrt(0.75) * 800.0 - 300.0 * std::log(10.0)) / 2.0;
  CHECK(grown.q[0] == doctest::Approx(expected).epsilon(1e-11));
  // Inputs near the end of the range.
  saddle.q = {1e308, -1e308, 1e308};
  saddle.p = {-1e308, 1e308, 1e308};
  for (const Integrator kind : {Integrator::LeapfrogKDK, Integrator::ImplicitMidpoint, Integrator::Exact}) {
    const Doubles z = jump(*at.modes, saddle, 0.1, 100000, kind);
    for (long i = 0; i < 3; ++i) {
      CHECK_FALSE(std::isnan(z.q[u(i)]));
      CHECK_FALSE(std::isnan(z.p[u(i)]));
    }
  }
}

TEST_CASE("modes: directions without kinetic energy stay put while their momentum collects the force") {
  System s = dense(8, 71);
  add_linear_terms(s, 72);
  for (const long i : {1L, 5L}) {
    s.M(i, i) = 0.0;
    s.v[u(i)] = 0.0;
  }
  // A rank-2 dense Minv on three coupled coordinates: (1, -1, 0) and (0, 1, -1).
  System dense_null = dense(6, 73);
  add_linear_terms(dense_null, 74);
  for (double& x : dense_null.minv) x = 0.0;
  for (long i = 0; i < 2; ++i) {
    const long j = 2 * i;
    dense_null.M(j, j) += 1.0;
    dense_null.M(j + 1, j + 1) += 1.0;
    dense_null.M(j, j + 1) -= 1.0;
    dense_null.M(j + 1, j) -= 1.0;
  }
  std::fill(dense_null.v.begin(), dense_null.v.end(), 0.0);
  dense_null.v[0] = 0.5;
  dense_null.v[1] = -0.5;  // in the range
  for (const System& at : {s, dense_null}) {
    const NormalModesResult built = build(at);
    REQUIRE(built.modes);
    for (const Integrator kind : kLoops) {
      for (const std::int64_t steps : {1L, 2L, 3L, 400L}) {
        CHECK(error(jump(*built.modes, at, 0.1, steps, kind), loop<Quad>(at, 0.1, steps, kind)) <= 1.2e-16);
        CHECK(error(jump(*built.modes, at, 1e-7, steps, kind), loop<Quad>(at, 1e-7, steps, kind)) <= 1.2e-16);
      }
    }
    CHECK(error(jump(*built.modes, at, 2.0, 1, Integrator::Exact), exact_flow(at, 2.0)) <= 1.2e-16);
    const Doubles z = jump(*built.modes, at, 5.0, 10'000, Integrator::LeapfrogKDK);
    for (const double x : z.p) CHECK_FALSE(std::isnan(x));
  }
  const Doubles z = jump(*build(s).modes, s, 0.1, 1000, Integrator::LeapfrogKDK);
  CHECK(z.q[1] == s.q[1]);
  CHECK(z.q[5] == s.q[5]);
  // No kinetic energy at all.
  System still = dense(5, 75);
  std::fill(still.minv.begin(), still.minv.end(), 0.0);
  CHECK(error(jump(*build(still).modes, still, 0.1, 100, Integrator::LeapfrogKDK),
              loop<Quad>(still, 0.1, 100, Integrator::LeapfrogKDK)) <= 1.2e-16);
  // A drift along such a direction of a coupled system is refused, by name.
  s.v[1] = 1.0;
  CHECK(build(s).reason == "v has a component outside the range of Minv");
  dense_null.v[0] = 0.6;
  CHECK(build(dense_null).reason == "v has a component outside the range of Minv");
}

TEST_CASE("modes: degenerate and clustered frequencies, masses over twelve decades") {
  // A ring of equal springs: all inner frequencies double, the outer zero.
  System ring(16);
  for (long i = 0; i < ring.n; ++i) {
    const long j = (i + 1) % ring.n;
    ring.M(i, i) = 1.0;
    ring.K(i, i) += 1.0;
    ring.K(j, j) += 1.0;
    ring.K(i, j) -= 1.0;
    ring.K(j, i) -= 1.0;
  }
  std::mt19937_64 engine(81);
  ring.random_state(engine);
  // Full coupling with n - 1 equal frequencies, and a split of 1e-13.
  System equal(12);
  for (long i = 0; i < equal.n; ++i) {
    for (long j = 0; j < equal.n; ++j) equal.K(i, j) = i == j ? 3.0 + 1e-13 * static_cast<double>(i) : 0.125;
    equal.M(i, i) = 1.0;
  }
  equal.random_state(engine);
  for (const System& s : {ring, equal}) {
    const NormalModesResult built = build(s);
    REQUIRE(built.modes);
    const State<Quad> want = loop<Quad>(s, 0.25, 2000, Integrator::LeapfrogKDK);
    CHECK(error(jump(*built.modes, s, 0.25, 2000, Integrator::LeapfrogKDK), want) <= 1.2e-16);
  }
  const std::vector<double> omega = build(ring).modes->frequencies();
  REQUIRE(omega.size() == 16);
  for (std::size_t k = 0; k < 16; ++k) {
    CHECK(omega[k] ==
          doctest::Approx(2.0 * std::sin(std::acos(-1.0) * static_cast<double>((k + 1) / 2) / 16.0))
              .epsilon(1e-14));
  }

  System wide = dense(14, 82);
  for (long i = 0; i < wide.n; ++i) wide.M(i, i) = std::pow(10.0, -12.0 * static_cast<double>(i) / 13.0);
  const NormalModesResult built = build(wide);
  REQUIRE(built.modes);
  for (const std::int64_t steps : {1L, 3L, 2000L}) {
    const State<Quad> want = loop<Quad>(wide, 0.2, steps, Integrator::LeapfrogKDK);
    const Doubles got = jump(*built.modes, wide, 0.2, steps, Integrator::LeapfrogKDK);
    // Component by component: slow coordinates are as right as fast ones.
    for (long i = 0; i < wide.n; ++i) {
      CHECK(static_cast<double>(absq(got.q[u(i)] - want.q[u(i)])) <= 4e-16 * (1.0 + std::fabs(got.q[u(i)])));
      CHECK(static_cast<double>(absq(got.p[u(i)] - want.p[u(i)])) <= 4e-16 * (1.0 + std::fabs(got.p[u(i)])));
    }
  }
}

TEST_CASE("modes: the stated error holds for q and for p, whatever the masses") {
  // Six coordinates, masses over up to 24 decades, springs of one size or of many.
  std::mt19937_64 engine(201);
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(engine);
  };
  const int systems = long_tests() ? 20000 : 1200;
  constexpr Integrator kAll[] = {
      Integrator::LeapfrogKDK, Integrator::LeapfrogDKD, Integrator::ImplicitMidpoint, Integrator::Yoshida4,
      Integrator::Yoshida6,    Integrator::Yoshida8,    Integrator::BlanesMoan4};
  int taken = 0, taken_wide = 0;
  double tightest = kInf, worst_taken = 0;
  for (int at = 0; at < systems; ++at) {
    CAPTURE(at);
    const double decades = 24.0 * static_cast<double>(at % 7) / 6.0, stiff = at % 3 == 0 ? 4.0 : 0.5;
    System s =
        at % 2 ? chain(6, static_cast<std::uint64_t>(1000 + at)) : dense(6, static_cast<std::uint64_t>(at));
    if (at % 2 == 0 && at % 3 == 0)  // springs of many sizes, scaled from both sides to stay symmetric
      for (long i = 0; i < s.n; ++i) {
        const double scale = std::pow(10.0, uniform(-stiff, stiff));
        for (long j = 0; j < s.n; ++j) s.K(i, j) *= scale, s.K(j, i) *= scale;
        for (long j = 0; j < s.n; ++j) s.K(j, i) = s.K(i, j);
      }
    double omega2 = 0;
    for (long i = 0; i < s.n; ++i) {
      s.M(i, i) = std::pow(10.0, uniform(-0.5, 0.5) * decades);
      double row = 0;
      for (long j = 0; j < s.n; ++j) row += std::fabs(s.K(i, j));
      omega2 = std::max(omega2, s.M(i, i) * row);
    }
    if (at % 5 == 1) add_linear_terms(s, static_cast<std::uint64_t>(at));
    if (at % 11 == 3) {  // masses that couple
      std::vector<double> root(u(s.n));
      for (long i = 0; i < s.n; ++i) root[u(i)] = std::sqrt(s.M(i, i));
      for (long i = 0; i < s.n; ++i)
        for (long j = 0; j < i; ++j) s.M(i, j) = s.M(j, i) = 0.1 * uniform(-1, 1) * root[u(i)] * root[u(j)];
    }
    if (at % 11 == 7) s.M(2, 2) = s.v[2] = 0.0;
    if (at % 11 == 9) s.K(3, 3) = -s.K(3, 3);  // a saddle
    if (at % 5 == 2) std::fill(s.p.begin(), s.p.end(), 0.0);
    if (at % 5 == 3) std::fill(s.q.begin(), s.q.end(), 0.0);
    if (at % 5 == 4)  // the same displacement: mostly slow modes
      std::fill(s.q.begin(), s.q.end(), 1.0);
    const double h = uniform(0.05, 1.3) / std::sqrt(omega2);
    const std::int64_t steps = at % 4 == 0 ? 1 + at % 3 : 20 + at % 300;
    const Integrator kind = kAll[(at / 3) % 7];
    const NormalModesResult built = build(s);
    if (!built.modes) {  // the factor of a coupled Minv over 24 decades does not give v back
      CHECK(built.reason == "v has a component outside the range of Minv");
      CHECK(decades > 10);
      continue;
    }
    const auto made = built.modes->jump(h, steps, kind);
    Doubles z{s.q, s.p};
    const StateError stated = built.modes->apply(*made, s.q.data(), s.p.data(), z.q.data(), z.p.data());
    const State<Quad> want = loop<Quad>(s, h, steps, kind);
    const double q = relative(z.q, want.q), p = relative(z.p, want.p);
    CAPTURE(decades);
    CHECK(q <= stated.q);
    CHECK(p <= stated.p);
    if (q > 2e-16) tightest = std::min(tightest, stated.q / q);
    if (p > 2e-16) tightest = std::min(tightest, stated.p / p);
    if (stated.beyond_loop) continue;
    // What is taken is as close to the exact map as the loop, in the norms that the loop's own error is seen in.
    ++taken;
    taken_wide += decades > 10;
    const State<double> looped = loop<double>(s, h, steps, kind);
    worst_taken = std::max(worst_taken, q / std::max(relative(looped.q, want.q), 1.2e-16));
    worst_taken = std::max(worst_taken, p / std::max(relative(looped.p, want.p), 1.2e-16));
  }
  MESSAGE(taken << " of " << systems << " taken; bound / error at least " << tightest
                << "; error / loop's error at most " << worst_taken);
  CHECK(taken > systems / 3);
  CHECK(taken_wide > 0);
  CHECK(taken < systems);
}

TEST_CASE("modes: refusals name the reason") {
  System s = dense(4, 91);
  System bad = s;
  bad.K(0, 1) += 1e-9;
  CHECK(build(bad).reason.rfind("K is not symmetric", 0) == 0);
  bad = s;
  bad.M(2, 2) = -1.0;
  CHECK(build(bad).reason.rfind("Minv not positive semidefinite", 0) == 0);
  bad = s;
  bad.M(0, 1) = bad.M(1, 0) = 5.0;
  CHECK(build(bad).reason.rfind("Minv not positive semidefinite", 0) == 0);
  bad = s;
  bad.K(1, 1) = kInf;
  CHECK(build(bad).reason == "K has a non-finite entry");
  bad = s;
  bad.g[0] = std::nan("");
  CHECK(build(bad).reason == "g has a non-finite entry");
  const SparseDD k = sparse(4, s.k), m = sparse(4, s.minv);
  CHECK(NormalModes::build(k, m, {}, {}, {}, 3).reason ==
        "component of 4 coupled coordinates exceeds the dense limit (3)");
  SparseDD broken = k;
  broken.col[0] = 7;
  CHECK(NormalModes::build(broken, m, {}, {}).reason == "K: column index out of range");
  broken = k;
  broken.row_start.pop_back();
  CHECK(NormalModes::build(broken, m, {}, {}).reason == "K: inconsistent sparse storage");
  // 1 + h^2 lambda / 4 = 0.
  System singular(1);
  singular.K(0, 0) = -4.0;
  singular.M(0, 0) = 1.0;
  CHECK(build(singular)
            .modes->jump(1.0, 5, Integrator::ImplicitMidpoint)
            ->reason.rfind("the implicit midpoint step is singular", 0) == 0);
  CHECK(build(singular).modes->jump(kInf, 5, Integrator::LeapfrogKDK)->reason == "step size is not finite");
  CHECK(build(singular).modes->jump(1.0, -5, Integrator::LeapfrogKDK)->reason == "negative number of steps");
  // Unsorted columns and split entries are the same matrix.
  SparseDD shuffled;
  shuffled.n = 2;
  shuffled.row_start = {0, 3, 5};
  shuffled.col = {1, 0, 0, 0, 1};
  shuffled.value = {DD(-1.0), DD(1.0), DD(1.0), DD(-1.0), DD(2.0)};
  SparseDD unit;
  unit.n = 2;
  unit.row_start = {0, 1, 2};
  unit.col = {0, 1};
  unit.value = {DD(1.0), DD(1.0)};
  const NormalModesResult pair = NormalModes::build(shuffled, unit, {}, {});
  REQUIRE(pair.modes);
  CHECK(pair.modes->frequencies()[0] == doctest::Approx(1.0));
  CHECK(pair.modes->frequencies()[1] == doctest::Approx(std::sqrt(3.0)));
}

TEST_CASE("modes: a hundred thousand independent oscillators need no eigen solver; components stay apart") {
  const long n = 100'000;
  SparseDD k, m;
  k.n = m.n = n;
  k.row_start.push_back(0);
  m.row_start.push_back(0);
  std::vector<double> q(u(n)), p(u(n)), q1(u(n)), p1(u(n));
  for (long i = 0; i < n; ++i) {
    // Every 1000th coordinate is coupled to its neighbour.
    const bool first = i % 1000 == 10, second = i % 1000 == 11;
    k.col.push_back(static_cast<int>(i));
    k.value.push_back(1.0 + static_cast<double>(i % 7));
    if (first || second) {
      k.col.push_back(static_cast<int>(first ? i + 1 : i - 1));
      k.value.push_back(-0.5);
    }
    k.row_start.push_back(static_cast<long>(k.col.size()));
    m.col.push_back(static_cast<int>(i));
    m.value.push_back(1.0);
    m.row_start.push_back(i + 1);
    q[u(i)] = std::cos(static_cast<double>(i));
    p[u(i)] = 0.5;
  }
  const NormalModesResult built = NormalModes::build(k, m, {}, {});
  REQUIRE(built.modes);
  CHECK(built.modes->component_sizes() == std::vector<long>(100, 2));
  CHECK(built.modes->frequencies().size() == u(n));
  const auto made = built.modes->jump(0.01, 12345, Integrator::LeapfrogKDK);
  CHECK(made->coefficients.size() <= 7 + 200);
  CHECK(built.modes->jump(0.01, 12345, Integrator::LeapfrogKDK) == made);
  built.modes->apply(*made, q.data(), p.data(), q1.data(), p1.data());
  for (const long at : {0L, 10L, 99999L}) {
    const bool pair = at % 1000 == 10;
    System s(pair ? 2 : 1);
    for (long i = 0; i < s.n; ++i) {
      s.K(i, i) = 1.0 + static_cast<double>((at + i) % 7);
      s.M(i, i) = 1.0;
      s.q[u(i)] = q[u(at + i)];
      s.p[u(i)] = p[u(at + i)];
    }
    if (pair) s.K(0, 1) = s.K(1, 0) = -0.5;
    const State<Quad> want = loop<Quad>(s, 0.01, 12345, Integrator::LeapfrogKDK);
    for (long i = 0; i < s.n; ++i) {
      CHECK(q1[u(at + i)] == static_cast<double>(want.q[u(i)]));
      CHECK(p1[u(at + i)] == static_cast<double>(want.p[u(i)]));
    }
  }
}

TEST_CASE("modes: the same bits whatever runs the blocks") {
  System s = dense(150, 101);
  const std::vector<DD> none;
  // Blocks in reverse order stand for other threads: any dependence on the order would show.
  const ParallelFor reversed = [](long n, const std::function<void(long)>& body) {
    for (long i = n - 1; i >= 0; --i) body(i);
  };
  const NormalModesResult a = NormalModes::build(sparse(s.n, s.k), sparse(s.n, s.minv), none, none);
  const NormalModesResult b = NormalModes::build(sparse(s.n, s.k), sparse(s.n, s.minv), none, none, reversed);
  REQUIRE(a.modes);
  REQUIRE(b.modes);
  const Doubles x = jump(*a.modes, s, 0.1, 1'000'000, Integrator::LeapfrogKDK),
                y = jump(*b.modes, s, 0.1, 1'000'000, Integrator::LeapfrogKDK);
  CHECK(x.q == y.q);
  CHECK(x.p == y.p);
}

TEST_CASE("modes: a thousand coupled oscillators against a double-double loop (TINYPHYS_LONG_TESTS=1)" *
          doctest::skip(!long_tests())) {
  const long n = 1000;
  const double h = 0.1;
  const System s = dense(n, 111);
  const NormalModesResult built = build(s);
  REQUIRE(built.modes);
  // KDK in double-double: merged kicks, one matvec a step.
  DDMatrix k(n, n);
  k.hi = s.k;
  std::vector<DD> q(s.q.begin(), s.q.end()), p(s.p.begin(), s.p.end()), f(u(n));
  std::vector<double> ql = s.q, pl = s.p;
  const auto force = [&] { matvec({k.hi.data(), nullptr, n, n, n}, q.data(), 1, f.data()); };
  force();
  const std::int64_t steps = 1000;
  for (std::int64_t step = 0; step < steps; ++step) {
    for (long i = 0; i < n; ++i) p[u(i)] -= f[u(i)] * h * 0.5;
    for (long i = 0; i < n; ++i) q[u(i)] += p[u(i)] * s.minv[u(i * n + i)] * h;
    force();
    for (long i = 0; i < n; ++i) p[u(i)] -= f[u(i)] * h * 0.5;
  }
  const State<double> plain = loop<double>(s, h, steps, Integrator::LeapfrogKDK);
  State<Quad> want;
  for (long i = 0; i < n; ++i) {
    want.q.push_back(quad(q[u(i)]));
    want.p.push_back(quad(p[u(i)]));
  }
  const double by_jump = error(jump(*built.modes, s, h, steps, Integrator::LeapfrogKDK), want),
               by_loop = error(plain, want);
  MESSAGE("n = 1000, N = 1000: jump " << by_jump << ", loop " << by_loop);
  CHECK(by_jump <= by_loop);
  CHECK(by_jump <= 1.2e-16);
}

namespace {

// The system beside its tangent along changes of K, Minv, g and v: its second half moves as the derivative does.
System with_tangent(const System& s, const System& change) {
  const long n = s.n;
  System t(2 * n);
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < n; ++j) {
      for (const long half : {0L, n}) {
        t.K(half + i, half + j) = s.k[u(i * n + j)];
        t.M(half + i, half + j) = s.minv[u(i * n + j)];
      }
      t.K(n + i, j) = change.k[u(i * n + j)];
      t.M(n + i, j) = change.minv[u(i * n + j)];
    }
    t.g[u(i)] = s.g[u(i)];
    t.v[u(i)] = s.v[u(i)];
    t.g[u(n + i)] = change.g[u(i)];
    t.v[u(n + i)] = change.v[u(i)];
    t.q[u(i)] = s.q[u(i)];
    t.p[u(i)] = s.p[u(i)];
  }
  return t;
}

// The loop by the powers of its step as a matrix: 2^-83 for 10^9 steps.
State<Quad> loop_by_powers(const System& s, double h, std::int64_t steps, Integrator kind) {
  const long n = s.n, d = 2 * n + 1;
  System at = s;
  std::vector<Quad> step(u(d * d), Quad(0)), power(u(d * d), Quad(0)), offset(u(2 * n));
  for (long c = -1; c < 2 * n; ++c) {
    for (long i = 0; i < 2 * n; ++i) (i < n ? at.q[u(i)] : at.p[u(i - n)]) = i == c ? 1.0 : 0.0;
    const State<Quad> z = loop<Quad>(at, h, 1, kind);
    for (long i = 0; i < 2 * n; ++i) {
      const Quad x = i < n ? z.q[u(i)] : z.p[u(i - n)];
      if (c < 0)
        offset[u(i)] = step[u(i * d + 2 * n)] = x;
      else
        step[u(i * d + c)] = x - offset[u(i)];
    }
  }
  step[u(d * d - 1)] = 1;
  for (long i = 0; i < d; ++i) power[u(i * d + i)] = 1;
  const auto product = [&](const std::vector<Quad>& x, const std::vector<Quad>& y) {
    std::vector<Quad> out(u(d * d), Quad(0));
    for (long i = 0; i < d; ++i)
      for (long l = 0; l < d; ++l)
        for (long j = 0; j < d; ++j) out[u(i * d + j)] += x[u(i * d + l)] * y[u(l * d + j)];
    return out;
  };
  for (; steps > 0; steps /= 2) {
    if (steps % 2 != 0) power = product(step, power);
    step = product(step, step);
  }
  State<Quad> z{std::vector<Quad>(u(n)), std::vector<Quad>(u(n))};
  for (long i = 0; i < 2 * n; ++i) {
    Quad sum = power[u(i * d + 2 * n)];
    for (long j = 0; j < 2 * n; ++j)
      sum += power[u(i * d + j)] * static_cast<Quad>(j < n ? s.q[u(j)] : s.p[u(j - n)]);
    (i < n ? z.q[u(i)] : z.p[u(i - n)]) = sum;
  }
  return z;
}

// Of the sums of a gradient against the tangents, relative to the largest of their kind.
double moments_error(const System& s, double h, std::int64_t steps, Integrator kind) {
  const long n = s.n;
  std::vector<double> of_q(u(n)), of_p(u(n)), of_k(u(n * n)), of_minv(u(n * n)), of_g(u(n)), of_v(u(n));
  for (long i = 0; i < n; ++i) {
    of_q[u(i)] = std::cos(1.0 + 2.0 * static_cast<double>(i));
    of_p[u(i)] = std::sin(3.0 * static_cast<double>(i) + 0.5);
  }
  const NormalModesResult built = build(s);
  REQUIRE(built.reason == "");
  REQUIRE(built.modes->moments(h, steps, kind, s.q.data(), s.p.data(), of_q.data(), of_p.data(), n,
                               {of_k.data(), of_minv.data(), of_g.data(), of_v.data()}) == "");
  double worst = 0.0;
  const auto compare = [&](const std::vector<double>& got, const auto& entry) {
    double largest = 0.0, off = 0.0;
    for (std::size_t e = 0; e < got.size(); ++e) {
      System change(n);
      entry(change, static_cast<long>(e));
      const System t = with_tangent(s, change);
      const State<Quad> end = kind == Integrator::Exact
                                  ? exact_flow(t, static_cast<Quad>(h) * static_cast<Quad>(steps))
                              : steps > 1000 ? loop_by_powers(t, h, steps, kind)
                                             : loop<Quad>(t, h, steps, kind);
      Quad truth = 0;
      for (long i = 0; i < n; ++i)
        truth +=
            static_cast<Quad>(of_q[u(i)]) * end.q[u(n + i)] + static_cast<Quad>(of_p[u(i)]) * end.p[u(n + i)];
      truth /= h;
      largest = std::max(largest, std::fabs(static_cast<double>(truth)));
      off = std::max(off, std::fabs(static_cast<double>(static_cast<Quad>(got[e]) - truth)));
    }
    worst = std::max(worst, off / std::max(largest, 1e-300));
  };
  // Those of the way from the start, and of what is there.
  for (long e = 0; e < n * n; ++e) {
    of_k[u(e)] += of_g[u(e % n)] * s.q[u(e / n)];
    of_minv[u(e)] += of_v[u(e % n)] * s.p[u(e / n)];
  }
  compare(of_k, [n](System& c, long e) { c.K(e % n, e / n) = 1.0; });
  compare(of_minv, [n](System& c, long e) { c.M(e % n, e / n) = 1.0; });
  compare(of_g, [](System& c, long e) { c.g[u(e)] = 1.0; });
  compare(of_v, [](System& c, long e) { c.v[u(e)] = 1.0; });
  return worst;
}

}  // namespace

TEST_CASE("modes: the sums of a gradient against tangents in quad, of every integrator") {
  std::vector<std::pair<std::string, System>> systems;
  systems.emplace_back("dense", dense(4, 5));
  systems.emplace_back("chain", chain(3, 7));
  System equal(3);  // a threefold frequency, and constant forces
  for (long i = 0; i < 3; ++i) {
    equal.K(i, i) = 2.0;
    equal.M(i, i) = 0.5;
  }
  equal.q = {1.0, -0.5, 0.25};
  equal.p = {0.0, 0.75, -1.0};
  systems.emplace_back("equal singles", equal);
  System free(2);  // a pair that is free as a whole, masses over six decades
  free.K(0, 0) = free.K(1, 1) = 1.0;
  free.K(0, 1) = free.K(1, 0) = -1.0;
  free.M(0, 0) = 1.0;
  free.M(1, 1) = 1e-6;
  free.q = {1.0, 0.5};
  free.p = {0.25, 3.0};
  systems.emplace_back("free", free);
  System unstable = chain(3, 9);
  unstable.K(0, 0) = -1.0;
  systems.emplace_back("growing", unstable);
  System heavy(3);  // no kinetic energy, no spring, neither
  heavy.K(0, 0) = 1.5;
  heavy.M(1, 1) = 0.5;
  heavy.q = {1.0, 2.0, 3.0};
  heavy.p = {-1.0, 0.5, 0.25};
  systems.emplace_back("degenerate singles", heavy);
  for (auto& [name, s] : systems)
    for (const bool forces : {false, true}) {
      if (forces)
        for (long i = 0; i < s.n; ++i) {
          s.g[u(i)] = 0.3 * static_cast<double>(i) - 0.2;
          s.v[u(i)] = 0.1 + 0.2 * static_cast<double>(i);
        }
      for (int i = 0; is_integrator(static_cast<Integrator>(i)); ++i) {
        const auto kind = static_cast<Integrator>(i);
        const bool compose = kind != Integrator::LeapfrogKDK && kind != Integrator::ImplicitMidpoint;
        // A row of another test: the loop in quad has no solves but this one.
        if (row_of(kind).has(Part::kSolve) && kind != Integrator::ImplicitMidpoint) continue;
        const bool grows = name == "growing";
        for (const std::int64_t steps : {0, 1, 7, 1'000'000'001}) {
          if (steps > 1000 && (compose || grows || !forces)) continue;
          CAPTURE(name);
          CAPTURE(forces);
          CAPTURE(steps);
          CAPTURE(row_of(kind).name);
          CHECK(moments_error(s, steps == 7 ? -0.05 : 0.1, steps, kind) < 2e-14);
        }
      }
    }
}

TEST_CASE("modes: powers by generated code in double-double are those of one mode at a time") {
  std::mt19937_64 engine(77);
  std::uniform_real_distribution<double> decade(-14.0, 0.9);
  std::vector<DD> lambda;
  for (long j = 0; j < 400; ++j) lambda.push_back(DD(std::pow(10.0, decade(engine)), 1e-19 * decade(engine)));
  // A group with one that grows, one with a free particle, one beyond sigma = 1/2, one at the ends of the range.
  for (const double odd : {-0.3, 0.0, 3.1, 1e-290, 1e290}) {
    for (int k = 0; k < 8; ++k) lambda.push_back(0.01 * (k + 1));
    lambda.back() = odd;
  }
  lambda.push_back(0.7);  // the last group is not full
  for (DD& x : lambda) x = from_sum(x.hi, x.lo);
  long regular = 0;
  for (const Integrator kind :
       {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD, Integrator::Exact, Integrator::ImplicitMidpoint,
        Integrator::Yoshida4, Integrator::Yoshida6, Integrator::Yoshida8, Integrator::BlanesMoan4}) {
    const IntegratorRow& row = row_of(kind);
    for (const double h : {1.0, -1.0, 1e-3, 0.31}) {
      for (const std::int64_t steps : {1L, 2L, 7L, 1000L, 123'456'789L, 1'000'000'000'000L}) {
        CAPTURE(static_cast<int>(kind));
        CAPTURE(h);
        CAPTURE(steps);
        const ModePowers powers(lambda, h, steps, row, true, {}, mode_kernel);
        double worst = 0.0;
        for (long j = 0; j < powers.count(); ++j) {
          if (!powers.regular(j / 8 * 8)) continue;
          ++regular;
          const DD value = lambda[u(j)], z = value * h * h;
          const StepMap step = row.has(Part::kFlow) ? StepMap{} : step_map(row, z);
          const ModeCoefficients want = mode_coefficients(value, h, steps, row, step),
                                 got = powers.coefficients(j);
          const ModeBound bound = powers.bound(j),
                          one = mode_bound(value, h, steps, mode_angle(row, z, step), want);
          // Both are off by the rounding that the bound states, at most.
          const auto off = [&](DD a, DD b, double size) {
            worst = std::max(worst, std::fabs((a - b).hi) / (bound.rounding * size));
          };
          off(got.t, want.t, 1.0);
          off(got.b, want.b, bound.lever);
          off(got.a1, want.a1, bound.lever);
          off(got.a2, want.a2, bound.lever2);
          CHECK(bound.rounding == doctest::Approx(one.rounding).epsilon(1e-9));
          CHECK(bound.lever == doctest::Approx(one.lever).epsilon(1e-9));
          CHECK(bound.lever2 == doctest::Approx(one.lever2).epsilon(1e-9));
        }
        CHECK(worst <= 1.0);
      }
    }
  }
  CHECK(regular > 50'000);
}

TEST_CASE(
    "modes: single coordinates side by side against the quad loop, with forces, drifts and odd ones among "
    "them") {
  std::mt19937_64 engine(78);
  std::uniform_real_distribution<double> stiff(0.1, 3.0), some(-1.0, 1.0);
  for (const bool forces : {false, true}) {
    System s(91);
    for (long i = 0; i < s.n; ++i) {
      s.K(i, i) = stiff(engine);
      s.M(i, i) = stiff(engine);
      if (forces) {
        s.g[u(i)] = some(engine);
        s.v[u(i)] = some(engine);
      }
    }
    s.K(20, 20) = -0.5;
    s.M(37, 37) = 0.0;
    s.K(50, 50) = 0.0;
    s.random_state(engine);
    s.q[64] = 1e150;
    s.p[65] = 0.0;
    const NormalModesResult built = build(s);
    REQUIRE(built.modes);
    for (const Integrator kind : {Integrator::LeapfrogKDK, Integrator::LeapfrogDKD,
                                  Integrator::ImplicitMidpoint, Integrator::Yoshida4}) {
      for (const std::int64_t steps : {1L, 2L, 7L, 200L}) {
        CAPTURE(static_cast<int>(kind));
        CAPTURE(steps);
        const State<Quad> want = loop<Quad>(s, 0.2, steps, kind);
        const Doubles got = jump(*built.modes, s, 0.2, steps, kind);
        for (long i = 0; i < s.n; ++i) {
          CAPTURE(i);
          const double size = static_cast<double>(absq(want.q[u(i)]) + absq(want.p[u(i)]));
          CHECK(static_cast<double>(absq(got.q[u(i)] - want.q[u(i)])) <= 2e-16 * size);
          CHECK(static_cast<double>(absq(got.p[u(i)] - want.p[u(i)])) <= 2e-16 * size);
        }
      }
    }
  }
}
