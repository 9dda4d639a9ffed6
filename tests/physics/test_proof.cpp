// What is proved of an energy, and what must not be: coefficients that are equal modulo a likely prime, constants that
// the runtime rounds, data that cannot be looked at.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "analysis/identity.hpp"
#include "analysis/prime_field.hpp"
#include "needs_passes.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using Energy = std::function<Tensor(const Tensor&, const Tensor&)>;

namespace {

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

std::vector<double> joined(const tp::State& s) {
  auto v = s.q.to_vector<double>();
  const auto p = s.p.to_vector<double>();
  v.insert(v.end(), p.begin(), p.end());
  return v;
}

const Tensor& q0() {
  static const Tensor q = Tensor::from({0.5});
  return q;
}
const Tensor& p0() {
  static const Tensor p = Tensor::from({0.3});
  return p;
}

tp::State run(const Energy& h, tp::Method method = tp::Method::Default,
              tp::Integrator integrator = tp::Integrator::LeapfrogKDK) {
  tp::State s = tp::System(h).evolve({q0(), p0()},
                                     {.dt = 0.05, .steps = 400, .integrator = integrator, .method = method});
  tp::realize({s.q, s.p});
  return s;
}

bool is_loop(const tp::State& s) {
  const std::string report = tp::explain(s.q).text;
  return contains(report, "refused") && contains(report, "chose    the loop");
}

Tensor oscillator(const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); }

}  // namespace

TEST_CASE("proof: coefficients that are equal modulo 2^61 - 1 and its like are not equal") {
  for (const int e : {-61, -62, -63, -64, -122, -183, -1000, 61}) {
    CAPTURE(e);
    const double c = std::ldexp(0.1, e);
    const Energy cubic = [c](const Tensor& q, const Tensor& p) {
      return oscillator(q, p) + 0.1 * (q * q * q).sum() - c * (q * q * q).sum();
    };
    const tp::State s = run(cubic);
    INFO(tp::explain(s.q).text);
    CHECK(is_loop(s));
    CHECK(joined(s) == joined(run(cubic, tp::Method::Loop)));
  }
  // The sum of three: 2^-61 + 2^-61 = 2^-60 in any field, so that this one cancels exactly and is proved.
  const double c = std::ldexp(0.1, -61);
  const Energy cancels = [c](const Tensor& q, const Tensor& p) {
    const Tensor q3 = (q * q * q).sum();
    return oscillator(q, p) + c * q3 + c * q3 - 2 * c * q3;
  };
  CHECK(contains(tp::explain(run(cancels).q).text, "lowered to 2 by the identity test"));
}

TEST_CASE("proof: nor do they cancel a cross term, or a cubic under Exact") {
  for (const int e : {-61, -62, -63, -122}) {
    CAPTURE(e);
    const double c = std::ldexp(0.3, e);
    const Energy joined_energy = [c](const Tensor& q, const Tensor& p) {
      return oscillator(q, p) + 0.3 * (q * p).sum() - c * (q * p).sum();
    };
    CHECK_THROWS_WITH_AS((void)run(joined_energy), doctest::Contains("q * p"), tp::Error);
    const Energy cubic = [c](const Tensor& q, const Tensor& p) {
      return oscillator(q, p) + 0.3 * (q * q * q).sum() - c * (q * q * q).sum();
    };
    CHECK_THROWS_WITH_AS((void)run(cubic, tp::Method::Default, tp::Integrator::Exact),
                         doctest::Contains("degree 3"), tp::Error);
  }
}

TEST_CASE("proof: constants are what the runtime makes of them") {
  // In exact arithmetic the bracket is 0; rounded, it is -1.1e-16.
  const Energy cubic = [](const Tensor& q, const Tensor& p) {
    const Tensor one = Tensor::full({}, 1.0);
    return oscillator(q, p) + 1e15 * (q * q * q).sum() * (one / 49.0 * 49.0 - 1.0);
  };
  const tp::State s = run(cubic);
  INFO(tp::explain(s.q).text);
  CHECK(is_loop(s));
  CHECK(joined(s) == joined(run(cubic, tp::Method::Loop)));
  CHECK(joined(s)[0] != doctest::Approx(joined(run(oscillator))[0]).epsilon(1e-3));

  // sqrt(2) sqrt(2) is not 2 either, and no rule of the real numbers may say so.
  const Energy root = [](const Tensor& q, const Tensor& p) {
    const Tensor r = sqrt(Tensor::full({}, 2.0));
    return oscillator(q, p) + 1e15 * (q * q * q).sum() * (r * r - 2.0);
  };
  CHECK(is_loop(run(root)));
  // A function whose last bit depends on the device.
  const Energy sine = [](const Tensor& q, const Tensor& p) {
    return oscillator(q, p) + 1e15 * (q * q * q).sum() * (sin(Tensor::full({}, 1.0)) - std::sin(1.0));
  };
  CHECK(is_loop(run(sine)));
  // float32 arithmetic rounds to float32.
  const Energy narrow = [](const Tensor& q, const Tensor& p) {
    const Tensor third =
        Tensor::full({}, 1.0, tp::DType::kFloat32) / Tensor::full({}, 3.0, tp::DType::kFloat32);
    const Tensor rest = third.astype(tp::DType::kFloat64) * 3.0 - 1.0;
    return oscillator(q, p) + (q * q * q).sum() * rest;
  };
  CHECK(is_loop(run(narrow)));
  // What rounds to nothing is nothing.
  const Energy nothing = [](const Tensor& q, const Tensor& p) {
    const Tensor one = Tensor::full({}, 1.0);
    return oscillator(q, p) + 1e15 * (q * q * q).sum() * (one / 4.0 * 4.0 - 1.0);
  };
  CHECK(contains(tp::explain(run(nothing).q).text, "lowered to 2 by the identity test"));
}

TEST_CASE("proof: the jump uses the constants of the loop" * tp::testing::needs_passes()) {
  const Energy stiff = [](const Tensor& q, const Tensor& p) {
    const Tensor one = Tensor::full({}, 1.0);
    return 0.5 * (p * p).sum() - 1e16 * (q * q).sum() * (one / 49.0 * 49.0 - 1.0);
  };
  const tp::State jump = run(stiff);
  CHECK(contains(tp::explain(jump.q).text, "normal-mode jump"));
  const auto loop = joined(run(stiff, tp::Method::Loop));
  CHECK(loop[0] != doctest::Approx(0.5 + 0.3 * 20).epsilon(1e-3));  // not the free motion
  for (std::size_t i = 0; i < 2; ++i) CHECK(joined(jump)[i] == doctest::Approx(loop[i]).epsilon(1e-12));
}

TEST_CASE("proof: a captured value is one unknown, however it is moved") {
  const Tensor k = Tensor::from({2.0});
  const Energy moved = [&](const Tensor& q, const Tensor& p) {
    const Tensor q3 = q * q * q;
    return oscillator(q, p) + (k * q3).sum() - k.sum() * q3.sum() + 0.5 * (k.reshape({1, 1}) * q * q).sum() +
           (-k * q3).sum() + k.sum() * q3.sum();
  };
  const tp::State s = run(moved);
  INFO(tp::explain(s.q).text);
  CHECK(is_loop(s));  // k.sum() is a reduction: an unknown of its own to us
  const Energy same = [&](const Tensor& q, const Tensor& p) {
    const Tensor q3 = q * q * q;
    return oscillator(q, p) + (k * q3).sum() - (k.reshape({1, 1}) * q3).sum();
  };
  CHECK(contains(tp::explain(run(same).q).text, "lowered to 2 by the identity test"));
  // a b is rounded: a (b q^3) is not (a b) q^3.
  const Tensor a = Tensor::from({0.1}), b = Tensor::from({0.7});
  const Energy rounded = [&](const Tensor& q, const Tensor& p) {
    const Tensor q3 = q * q * q;
    return oscillator(q, p) + 1e15 * ((a * b) * q3 - a * (b * q3)).sum();
  };
  CHECK(is_loop(run(rounded)));
}

TEST_CASE("proof: indices that are data are not guessed") {
  const Tensor i = Tensor::from({std::int64_t{0}}), j = Tensor::from({std::int64_t{1}});
  const Energy picks = [&](const Tensor& q, const Tensor& p) {
    const Tensor q3 = q * q * q;
    return oscillator(q, p) + 0.1 * (gather(q3, i, 0) - gather(q3, j, 0)).sum();
  };
  for (int again = 0; again < 20; ++again) {
    tp::proof_random().seed(static_cast<std::uint64_t>(again));
    const tp::State s = tp::System(picks).evolve({Tensor::from({0.5, 0.2 + again}), Tensor::from({0.3, 0.1})},
                                                 {.dt = 0.01, .steps = 10});
    CHECK(contains(tp::explain(s.q).text, "refused"));
  }
  // Quadratic by its degree bound, whatever the indices are.
  const Energy spring = [&](const Tensor& q, const Tensor& p) {
    const Tensor d = gather(q, i, 0) - gather(q, j, 0);
    return oscillator(q, p) + 0.5 * (d * d).sum();
  };
  const tp::State s = tp::System(spring).evolve({Tensor::from({0.5, 0.2}), Tensor::from({0.3, 0.1})},
                                                {.dt = 0.01, .steps = 1000});
  CHECK(contains(tp::explain(s.q).text, "proved"));
}

TEST_CASE("proof: pow with a constant tensor as exponent" * tp::testing::needs_passes()) {
  const Tensor two = Tensor::full({1}, 2.0);
  const Energy square = [&](const Tensor& q, const Tensor& p) {
    return 0.5 * pow(p, Tensor::full({}, 2.0)).sum() + 0.5 * pow(q, two).sum();
  };
  const tp::State s = run(square);
  INFO(tp::explain(s.q).text);
  CHECK(contains(tp::explain(s.q).text, "normal-mode jump"));
  const auto expected = joined(run(oscillator));
  for (std::size_t i = 0; i < 2; ++i) CHECK(joined(s)[i] == doctest::Approx(expected[i]).epsilon(1e-13));
  const Energy half = [&](const Tensor& q, const Tensor& p) {
    const Tensor r = pow((q * q).sum(), Tensor::full({}, 0.5));
    return 0.5 * (p * p).sum() + 0.5 * r * r;
  };
  CHECK(contains(tp::explain(run(half).q).text, "normal-mode jump"));
  const Energy other = [&](const Tensor& q, const Tensor& p) {
    return oscillator(q, p) + 0.1 * pow(q, Tensor::full({}, 2.5)).sum();
  };
  CHECK(is_loop(run(other)));
}

TEST_CASE("proof: a verdict found for some numbers is not used for others") {
  const auto with = [](double c) {
    return Energy([c](const Tensor& q, const Tensor& p) {
      return oscillator(q, p) + (pow(q + 1.0, 4) - pow(q, 4) - c * pow(q, 3)).sum();
    });
  };
  CHECK(is_loop(run(with(3.9))));
  CHECK(contains(tp::explain(run(with(4.0)).q).text, "lowered to 2 by the identity test"));
  CHECK(is_loop(run(with(4.1))));
  CHECK(contains(tp::explain(run(with(4.0)).q).text, "lowered to 2 by the identity test"));
}

TEST_CASE("prime field: arithmetic, inverses, powers of two") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t p = tp::random_prime(random);
    CHECK(p > (std::uint64_t{1} << 61));
    CHECK(p < (std::uint64_t{1} << 63));
    CHECK(tp::is_prime(p));
    const tp::PrimeField field(p);
    const tp::FieldScope scope(field);
    using N = tp::Number<tp::Fp>;
    __extension__ using Wide = unsigned __int128;
    const auto residue = [&](tp::Fp x) { return field.to_residue(x.v); };
    for (int k = 0; k < 50; ++k) {
      const std::uint64_t a = random() % p, b = random() % p;
      const tp::Fp x{field.from_residue(a)}, y{field.from_residue(b)};
      CHECK(residue(x) == a);
      CHECK(residue(x + y) == static_cast<std::uint64_t>((static_cast<Wide>(a) + b) % p));
      CHECK(residue(x - y) == static_cast<std::uint64_t>((static_cast<Wide>(a) + p - b) % p));
      CHECK(residue(x * y) == static_cast<std::uint64_t>(static_cast<Wide>(a) * b % p));
      CHECK(N::divide(x, y) * y == x);
      CHECK(x + (-x) == tp::Fp{0});
    }
    CHECK(residue(N::from_double(1.0)) == 1);
    CHECK(residue(N::from_double(-3.0)) == p - 3);
    CHECK(N::from_double(0.75) * N::from_double(4.0) == N::from_double(3.0));
    CHECK(N::from_double(std::ldexp(0.1, -61)) * N::from_double(std::ldexp(1.0, 61)) == N::from_double(0.1));
    CHECK(N::from_double(5e-324) * N::from_double(std::ldexp(1.0, 537)) *
              N::from_double(std::ldexp(1.0, 537)) ==
          N::from_double(1.0));
    CHECK_FALSE(N::from_double(std::ldexp(1.0, -61)) == N::from_double(1.0));
    CHECK(residue(N::from_int(INT64_MIN)) == p - (std::uint64_t{1} << 63) % p);
    CHECK_THROWS_AS((void)N::divide(tp::Fp::one(), tp::Fp{0}), tp::NotInField);
  }
}

TEST_CASE("prime field: primality") {
  std::vector<char> composite(5000, 0);
  for (std::uint64_t n = 2; n < composite.size(); ++n) {
    CHECK(tp::is_prime(n) == !composite[n]);
    if (!composite[n])
      for (std::uint64_t m = n * n; m < composite.size(); m += n) composite[m] = 1;
  }
  // Mersenne primes, Carmichael numbers, strong pseudoprimes to many bases, squares of primes.
  CHECK(tp::is_prime((std::uint64_t{1} << 61) - 1));
  CHECK(tp::is_prime(9223372036854775783u));  // the largest below 2^63
  for (const std::uint64_t n : {std::uint64_t{1}, std::uint64_t{825265}, std::uint64_t{3825123056546413051},
                                std::uint64_t{3215031751}, std::uint64_t{341550071728321},
                                std::uint64_t{3037000493u} * 3037000493u, (std::uint64_t{1} << 62) - 1})
    CHECK_FALSE(tp::is_prime(n));
}

TEST_CASE("proof: two proofs draw different primes, a seed fixes them") {
  CHECK(tp::random_prime(tp::proof_random()) != tp::random_prime(tp::proof_random()));
  tp::proof_random().seed(3);
  const std::uint64_t p = tp::random_prime(tp::proof_random());
  tp::proof_random().seed(3);
  CHECK(tp::random_prime(tp::proof_random()) == p);
}

namespace {

// A body over (q, p, x...) made of float64 [n] PARAMs.
struct Body {
  std::vector<tp::UOp> x;
  tp::UOp lambda;
  std::vector<tp::StateGroup> groups;
  Body(std::int64_t n_params, std::int64_t n, const std::function<tp::UOp(const std::vector<tp::UOp>&)>& f) {
    const std::int64_t shape[] = {n};
    for (std::int64_t i = 0; i < n_params; ++i) x.push_back(tp::param(i, tp::DType::kFloat64, shape));
    const tp::UOp out = tp::sum_all(f(x));
    lambda = tp::make(tp::Op::LAMBDA, {out}, {n_params});
    groups.assign(static_cast<std::size_t>(n_params), tp::StateGroup::kNone);
    groups[0] = tp::StateGroup::kQ;
    groups[1] = tp::StateGroup::kP;
  }
  tp::IdentityTest test(const tp::Constants& constants = {}) const {
    const auto bound = tp::bound_degree(lambda.get(), groups, 2);
    REQUIRE(bound.worst.finite());
    return tp::test_degree(lambda.get(), groups, bound, 2, constants);
  }
};

}  // namespace

TEST_CASE("identity: the stated error counts degree, coefficients, divisors") {
  const auto error = [](const Body& b) {
    const auto t = b.test();
    REQUIRE(t.holds);
    return std::sqrt(t.error_probability);  // of one prime
  };
  const double a_bit = 1 / 61.0 / 1.6e17, a_degree = std::exp2(-61);
  const Body square(2, 1, [](const auto& x) { return tp::mul(x[0], x[0]); });
  CHECK(error(square) >= 2 * a_degree);
  CHECK(error(square) <= 2 * a_degree + 10 * a_bit);
  const Body tiny(2, 1, [](const auto& x) {
    const tp::UOp s = tp::mul(x[0], x[0]);
    return tp::add(tp::scaled(s, 1e300), tp::scaled(s, 1e-300));
  });
  CHECK(error(tiny) >= 1990 * a_bit);
  CHECK(error(tiny) <= 2200 * a_bit);
  const Body divided(3, 1000, [](const auto& x) { return tp::div(tp::mul(x[0], x[0]), x[2]); });
  CHECK(error(divided) >= 1000 * a_degree);
  CHECK(error(divided) <= 1010 * a_degree + 20 * a_bit);
}

TEST_CASE("identity: movement and negation are seen through") {
  const Body b(3, 4, [](const auto& x) {
    const tp::UOp q3 = tp::powi(x[0], 3), k = x[2];
    const tp::UOp there = tp::flip(k, 0), back = tp::flip(tp::neg(there), 0);
    return tp::add(tp::mul(k, q3), tp::mul(back, q3));
  });
  CHECK(b.test().holds);
  const Body other(3, 4, [](const auto& x) {
    const tp::UOp q3 = tp::powi(x[0], 3), k = x[2];
    return tp::sub(tp::mul(k, q3), tp::mul(tp::flip(k, 0), q3));
  });
  CHECK_FALSE(other.test().holds);
}

TEST_CASE("identity: what the numbers decide, and what they do not") {
  // q^3 (x2 - 2): quadratic for x2 = 2 only.
  const Body b(3, 1, [](const auto& x) {
    return tp::mul(tp::powi(x[0], 3), tp::sub(x[2], tp::full_like(x[2], 2.0)));
  });
  const auto number = [](double v) {
    tp::Constants c(3);
    c[2] = tp::Value<double>{tp::DType::kFloat64, {1}, {v}, {}};
    return c;
  };
  auto t = b.test();
  CHECK_FALSE(t.holds);
  CHECK(t.values_decide);
  t = b.test(number(2.0));
  CHECK(t.holds);
  CHECK(t.values_decide);
  CHECK(t.needed_values);
  t = b.test(number(2.0000000000000004));
  CHECK_FALSE(t.holds);
  CHECK_FALSE(t.needed_values);
  t = b.test(number(INFINITY));
  CHECK_FALSE(t.holds);
  CHECK(contains(t.reason, "not finite"));
  // (q + x2)^2 - q^2: no matter which.
  const Body any(3, 1, [](const auto& x) {
    return tp::sub(
        tp::powi(tp::add(x[0], x[2]), 3),
        tp::add(tp::powi(x[0], 3), tp::mul(tp::mul(x[2], x[0]), tp::add(x[0], tp::add(x[0], x[0])))));
  });
  t = any.test(number(0.1));
  CHECK(t.holds);
  CHECK_FALSE(t.values_decide);
}
