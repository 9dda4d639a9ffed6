// Schroedinger(H) of an H that is given as a function: what shows that it is linear and Hermitian, what is refused, closed forms.
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <tinyphys/tinyphys.hpp>

#include "analysis/linear_operator.hpp"
#include "linalg/lanczos.hpp"
#include "tensor/access.hpp"
#include "uop/uop.hpp"

namespace tp = tinyphys;

namespace {

using Complex = std::complex<double>;
using doctest::Contains;
using tp::Tensor;
constexpr Complex kI{0.0, 1.0};
constexpr auto kSeries = tp::Method::Spectral;

Tensor hop(const Tensor& psi) { return -1.0 * (psi.roll(1, 0) + psi.roll(-1, 0)); }

Tensor at_site(std::int64_t n, std::int64_t i) {
  std::vector<Complex> v(static_cast<std::size_t>(n));
  v[static_cast<std::size_t>(i)] = 1.0;
  return Tensor::from(v);
}
Tensor outer(const Tensor& a, const Tensor& b) { return a.unsqueeze(1) * b.unsqueeze(0); }
double apart(const Tensor& a, const Tensor& b) { return tp::abs(a - b).max().item<double>(); }

// H is refused for this reason, at the line of the call.
template <class H> void refused(const H& h, const tp::Shape& shape, const char* why) {
  const auto line = static_cast<unsigned>(__LINE__) + 2;
  try {
    const tp::Schroedinger s(h, shape);
    FAIL_CHECK("taken, and not refused for: ", std::string(why));
  } catch (const tp::Error& e) {
    CHECK_MESSAGE(e.message().find(why) != std::string::npos, e.message());
    CHECK(e.line() == line);
    CHECK(e.call() == "Schroedinger");
  }
}

tp::OperatorProof proof_of(const tp::Schroedinger::Hamiltonian& h, const tp::Shape& shape) {
  const tp::UOp psi = tp::symbol(tp::DType::kComplex128, shape);
  return tp::prove_operator(psi, tp::uop(h(tp::tensor(psi))));
}
constexpr auto kProven = tp::OperatorProof::Answer::kProven;
constexpr auto kOpen = tp::OperatorProof::Answer::kOpen;
constexpr auto kRefuted = tp::OperatorProof::Answer::kRefuted;

}  // namespace

TEST_CASE("hamiltonian: T + V as a function is what the grid and V are") {
  const tp::Grid grid({96}, {18.0});
  const Tensor x = grid.x(0), v = 0.5 * x * x, t = 0.5 * grid.k_squared();
  const tp::Schroedinger by_parts(grid, v);
  const tp::Schroedinger whole([&](const Tensor& psi) { return tp::ifft(t * tp::fft(psi)) + v * psi; }, grid);
  const Tensor psi = tp::complex(tp::exp(-0.5 * tp::square(x - 1.0)), 0.3 * tp::exp(-tp::square(x)));
  CHECK(apart(whole.apply(psi), by_parts.apply(psi)) < 1e-12);
  CHECK(whole.energy(psi).item<double>() ==
        doctest::Approx(by_parts.energy(psi).item<double>()).epsilon(1e-13));
  CHECK(whole.norm(psi).item<double>() == by_parts.norm(psi).item<double>());
  CHECK(whole.expectation(psi, x).item<double>() == by_parts.expectation(psi, x).item<double>());
  const Tensor end = whole.evolve(psi, {.t_end = 3.0, .method = kSeries}).psi;
  CHECK(apart(end, by_parts.evolve(psi, {.t_end = 3.0, .method = kSeries}).psi) < 1e-12);
  const std::string told = tp::explain(end).text;
  CHECK(told.find("H is linear: a sum of 2 products of diagonals, transforms and shifts") !=
        std::string::npos);
  CHECK(told.find("H is Hermitian: the adjoint of each is one of them") != std::string::npos);
  CHECK(told.find("steps of Lanczos") != std::string::npos);
  // Imaginary time, states on the way, and a batch.
  const Tensor ground = whole.evolve(psi, {.t_end = 25.0, .method = kSeries, .imaginary = true}).psi;
  CHECK(std::fabs(whole.energy(ground).item<double>() - 0.5) < 1e-11);
  CHECK(whole.norm(ground).item<double>() == doctest::Approx(1.0).epsilon(1e-13));
  const tp::Wave saved = whole.evolve(psi, {.dt = 0.5, .steps = 6, .method = kSeries, .save_every = 2});
  CHECK(saved.psi.shape() == tp::Shape{4, 96});
  CHECK(apart(saved.psi.slice(0, 3, 4).squeeze(0), end) < 1e-12);
  const Tensor both = tp::stack({psi, psi * kI}, 0);
  CHECK(apart(whole.evolve(both, {.t_end = 3.0, .method = kSeries}).psi, tp::stack({end, end * kI}, 0)) <
        1e-12);
  CHECK(whole.energy(both).shape() == tp::Shape{2});
}

TEST_CASE("hamiltonian: a particle on a ring of sites spreads as Bessel functions") {
  const tp::Schroedinger ring(hop, tp::Shape{64});
  const double t = 5.0;
  const tp::Wave w = ring.evolve(at_site(64, 32), {.t_end = t, .method = kSeries});
  const auto psi = w.psi.to_vector<Complex>();
  for (int n = -30; n <= 30; ++n) {  // i^n J_n(2 t)
    CAPTURE(n);
    const Complex exact = std::pow(kI, std::abs(n)) * std::cyl_bessel_j(std::abs(n), 2 * t);
    CHECK(std::abs(psi[static_cast<std::size_t>(32 + n)] - exact) < 1e-13);
  }
  CHECK(ring.norm(w.psi).item<double>() == doctest::Approx(1.0).epsilon(1e-13));
  CHECK(ring.expectation(w.psi, Tensor::arange(64.0)).item<double>() == doctest::Approx(32.0).epsilon(1e-12));
}

TEST_CASE("hamiltonian: hbar divides the time") {
  const tp::Schroedinger one(hop, tp::Shape{32}), three(hop, tp::Shape{32}, {.hbar = 3.0});
  const Tensor psi = at_site(32, 5);
  CHECK(apart(one.evolve(psi, {.t_end = 1.0, .method = kSeries}).psi,
              three.evolve(psi, {.t_end = 3.0, .method = kSeries}).psi) < 1e-13);
}

TEST_CASE("hamiltonian: spins, of more axes than a grid has; an H of no width") {
  // The sum of sigma_x of each: all up is cos(t)^5 of itself after t.
  const auto flips = [](const Tensor& psi) {
    Tensor sum = psi.roll(1, 0);
    for (std::int64_t a = 1; a < 5; ++a) sum = sum + psi.roll(1, a);
    return sum;
  };
  const tp::Schroedinger spins(flips, tp::Shape{2, 2, 2, 2, 2});
  const Tensor up = at_site(32, 0).reshape({2, 2, 2, 2, 2});
  const auto psi = spins.evolve(up, {.t_end = 0.7, .method = kSeries}).psi.reshape({-1}).to_vector<Complex>();
  CHECK(std::abs(psi[0] - std::pow(std::cos(0.7), 5)) < 1e-13);
  CHECK(std::abs(psi[31] - std::pow(-kI * std::sin(0.7), 5)) < 1e-13);

  const tp::Schroedinger nothing([](const Tensor& z) { return 0.0 * z; }, tp::Shape{4});
  CHECK(apart(nothing.evolve(at_site(4, 1), {.t_end = 9.0, .method = kSeries}).psi, at_site(4, 1)) < 1e-12);
  const tp::Schroedinger constant([](const Tensor& z) { return 2.0 * z; }, tp::Shape{4});
  CHECK(apart(constant.evolve(at_site(4, 1), {.t_end = 1.5, .method = kSeries}).psi,
              at_site(4, 1) * std::exp(-3.0 * kI)) < 1e-13);
}

TEST_CASE("hamiltonian: what shows it linear and Hermitian") {
  const tp::Shape shape{12};
  const Tensor a = Tensor::linspace(0.2, 1.7, 12).clone(), theta = Tensor::linspace(0.0, 5.0, 12).clone();
  const Tensor k = tp::fftfreq(12) * 6.0, phase = tp::exp(kI * theta);
  SUBCASE("by structure") {
    const tp::Schroedinger::Hamiltonian those[] = {
        hop,
        [&](const Tensor& z) { return tp::ifft(k * tp::fft(a * z)) + a * tp::ifft(k * tp::fft(z)); },
        [&](const Tensor& z) { return phase * z.roll(1, 0) + (tp::conj(phase) * z).roll(-1, 0); },
        [&](const Tensor& z) { return kI * (a * tp::ifft(k * tp::fft(z)) - tp::ifft(k * tp::fft(a * z))); },
        [&](const Tensor& z) { return z / a - (a - 3.0) * z * 2.0 + tp::fft(tp::ifft(z) * k); },
        [&](const Tensor& z) { return (z.roll(1, 0) - z.roll(-1, 0)) * (-0.5 * kI); },
        [&](const Tensor& z) { return (z.roll(1, 0) - z.roll(-1, 0)) / (2.0 * kI); }};
    for (std::size_t i = 0; i < std::size(those); ++i) {
      CAPTURE(i);
      const tp::OperatorProof p = proof_of(those[i], shape);
      CHECK_MESSAGE(p.linear == kProven, p.linear_how);
      CHECK_MESSAGE(p.hermitian == kProven, p.hermitian_how);
      CHECK(p.hermitian_how.find("adjoint of each") != std::string::npos);
      CHECK_NOTHROW(tp::Schroedinger(those[i], shape));
    }
  }
  SUBCASE("by identities in F_p") {
    const tp::Schroedinger::Hamiltonian those[] = {
        // the parts of psi, each by itself; a hop whose way back has its phase moved; a reflection; a projection
        [&](const Tensor& z) { return tp::complex(a * tp::real(z), a * tp::imag(z)); },
        [&](const Tensor& z) { return phase * z.roll(1, 0) + tp::conj(phase).roll(-1, 0) * z.roll(-1, 0); },
        [&](const Tensor& z) { return z.flip(0) * 2.0; }, [&](const Tensor& z) { return a * (a * z).sum(); }};
    for (std::size_t i = 0; i < std::size(those); ++i) {
      CAPTURE(i);
      const tp::OperatorProof p = proof_of(those[i], shape);
      CHECK_MESSAGE(p.linear == kProven, p.linear_how);
      CHECK_MESSAGE(p.hermitian == kProven, p.hermitian_how);
      CHECK(p.hermitian_how.find("F_p") != std::string::npos);
      CHECK_NOTHROW(tp::Schroedinger(those[i], shape));
    }
  }
  SUBCASE("by numbers") {
    Tensor m = tp::complex(outer(a, theta), outer(theta, theta * a));
    m = (m + tp::conj(m.transpose())).clone();
    const auto dense = [&](const Tensor& z) { return tp::matmul(m, z); };
    const tp::OperatorProof p = proof_of(dense, shape);
    CHECK(p.linear == kProven);
    CHECK(p.hermitian == kOpen);
    const tp::Schroedinger h(dense, shape);
    const Tensor end = h.evolve(at_site(12, 3), {.t_end = 0.1, .method = kSeries}).psi;
    const std::string told = tp::explain(end).text;
    CHECK(told.find("H is Hermitian by numbers, which is no proof") != std::string::npos);
    CHECK(h.norm(end).item<double>() == doctest::Approx(1.0).epsilon(1e-13));
    // A little of one element makes the difference.
    Tensor off = m.clone();
    off = off + 1e-9 * outer(at_site(12, 2), at_site(12, 7));
    refused([&](const Tensor& z) { return tp::matmul(off, z); }, shape, "H is not Hermitian");
  }
}

TEST_CASE("hamiltonian: near misses are not proven") {
  const tp::Shape shape{12};
  const Tensor a = Tensor::linspace(0.2, 1.7, 12).clone(), theta = Tensor::linspace(0.0, 5.0, 12).clone();
  const Tensor k = tp::fftfreq(12) * 6.0, phase = tp::exp(kI * theta), scalar = Tensor(1.5).clone();
  const auto open = [&](const tp::Schroedinger::Hamiltonian& h) {
    const tp::OperatorProof p = proof_of(h, shape);
    CHECK(p.linear == kProven);
    CHECK(p.hermitian == kOpen);
  };
  open([&](const Tensor& z) { return a * tp::ifft(k * tp::fft(z)); });
  open([&](const Tensor& z) { return tp::ifft(k * tp::fft(a * z)) + theta * tp::ifft(k * tp::fft(z)); });
  open([&](const Tensor& z) { return phase * z.roll(1, 0) + (phase * z).roll(-1, 0); });
  open([&](const Tensor& z) { return phase * z.roll(1, 0) + (tp::conj(phase) * z).roll(-2, 0); });
  open([&](const Tensor& z) { return phase * z.roll(1, 0) + 0.999 * (tp::conj(phase) * z).roll(-1, 0); });
  open([&](const Tensor& z) { return phase * z.roll(1, 0) + tp::conj(phase) * z.roll(-1, 0); });
  open([&](const Tensor& z) { return kI * scalar * (z.roll(1, 0) + z.roll(-1, 0)); });
  open([&](const Tensor& z) { return kI * scalar * z + z; });
  open([&](const Tensor& z) { return tp::fft(k * tp::fft(z)); });
  open([&](const Tensor& z) { return z / phase; });
  open([&](const Tensor& z) { return a * (theta * z).sum(); });
  const Tensor scalars = tp::complex(scalar, 1e-18);
  open([&](const Tensor& z) { return scalars * z; });
  CHECK(proof_of([](const Tensor& z) { return z * z; }, shape).linear == kRefuted);
  CHECK(proof_of([](const Tensor& z) { return tp::conj(z); }, shape).linear == kOpen);
  CHECK(proof_of([](const Tensor& z) { return z + 1.0; }, shape).linear == kOpen);
}

TEST_CASE("hamiltonian: random operators that are proven Hermitian have Hermitian matrices") {
  std::mt19937_64 random(20260);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  const tp::Shape shape{6};
  const Tensor a = Tensor::linspace(0.2, 1.7, 6).clone(), b = Tensor::from({1.0, -2.0, 0.5, 3.0, 0.0, 1.0});
  const Tensor phase = tp::exp(kI * (2.0 * a)).clone(), scalar = Tensor(1.25).clone();
  const Tensor basis = (Tensor::arange(6.0).unsqueeze(1) == Tensor::arange(6.0).unsqueeze(0))
                           .astype(tp::DType::kComplex128)
                           .clone();
  constexpr std::uint64_t kKinds = 10;
  const auto factor = [&](std::uint64_t kind, const Tensor& z) -> Tensor {
    switch (kind) {
      case 0: return a * z;
      case 1: return z / a;
      case 2: return phase * z;
      case 3: return tp::conj(phase) * z;
      case 4: return z.roll(1, 0);
      case 5: return z.roll(-1, 0);
      case 6: return tp::fft(z);
      case 7: return tp::ifft(z) * 6.0;
      case 8: return scalar * z;
      default: return b * z;
    }
  };
  constexpr std::uint64_t kAdjoint[kKinds] = {0, 1, 3, 2, 5, 4, 7, 6, 8, 9};
  int proven = 0, refused = 0;
  for (int trial = 0; trial < 40; ++trial) {
    CAPTURE(trial);
    struct Product {
      Complex scale;
      std::vector<std::uint64_t> factors;
    };
    std::vector<Product> sum;
    for (std::uint64_t words = 1 + below(2); words > 0; --words) {
      Product w{below(2) ? Complex(1.0) : Complex(0.5, 0.25), {}};
      for (std::uint64_t n = 1 + below(4); n > 0; --n) w.factors.push_back(below(kKinds));
      sum.push_back(w);
      if (below(3) == 0) continue;
      Product back{std::conj(w.scale), {}};
      for (const std::uint64_t f : w.factors) back.factors.insert(back.factors.begin(), kAdjoint[f]);
      sum.push_back(back);
    }
    const auto h = [&](const Tensor& psi) {
      Tensor total;
      bool first = true;
      for (const Product& w : sum) {
        Tensor z = psi;
        for (const std::uint64_t f : w.factors) z = factor(f, z);
        z = w.scale * z;
        total = std::exchange(first, false) ? z : total + z;
      }
      return total;
    };
    const tp::OperatorProof p = proof_of(h, shape);
    CHECK(p.linear == kProven);
    const Tensor matrix = tp::vmap(h)(basis);
    const double off = apart(matrix, tp::conj(matrix.transpose()));
    if (p.hermitian == kProven) {
      ++proven;
      CHECK(off < 1e-12);
    } else {
      ++refused;
    }
  }
  CHECK(proven > 10);
  CHECK(refused > 10);
}

TEST_CASE("hamiltonian: what is not linear, or not Hermitian, is refused with its reason") {
  const tp::Shape shape{12};
  const Tensor w = tp::Tensor::linspace(0.0, 1.0, 12).clone();
  // not linear
  refused([](const Tensor& z) { return tp::square(tp::abs(z)) * z; }, shape, "H is not linear in psi: ");
  refused([](const Tensor& z) { return z * z * tp::conj(z); }, shape, "psi * psi");
  refused([](const Tensor& z) { return z / (1.0 + tp::abs(z)); }, shape, "not linear");
  refused([](const Tensor& z) { return z / z.norm(); }, shape, "not linear");
  refused([](const Tensor& z) { return tp::exp(z); }, shape, "exp(psi)");
  refused([](const Tensor& z) { return tp::real(z); }, shape, "H psi is float64[12]");
  refused([](const Tensor& z) { return tp::abs(z); }, shape, "H psi is float64[12]");
  refused([](const Tensor& z) { return tp::complex(tp::real(z), 0.0); }, shape, "over the complex numbers");
  refused([](const Tensor& z) { return kI * tp::complex(tp::imag(z), 0.0); }, shape,
          "over the complex numbers");
  refused([](const Tensor& z) { return tp::conj(z); }, shape, "over the complex numbers");
  refused([](const Tensor& z) { return hop(z) + 1e-6 * tp::conj(z); }, shape, "over the complex numbers");
  refused([](const Tensor& z) { return hop(z) + 1.0; }, shape, "of psi = 0 it makes 1 at point [");
  refused([&](const Tensor& z) { return hop(z) + tp::complex(1e-9 * w, 0.0); }, shape, "of psi = 0 it makes");
  // not Hermitian
  refused([&](const Tensor& z) { return hop(z) - kI * w * z; }, shape, "H is not Hermitian");
  refused([&](const Tensor& z) { return hop(z) - 1e-9 * kI * (w * z); }, shape, "H is not Hermitian");
  refused([](const Tensor& z) { return z.roll(1, 0); }, shape, "H is not Hermitian");
  refused([](const Tensor& z) { return z.roll(1, 0) - z.roll(-1, 0); }, shape, "H is not Hermitian");
  refused([&](const Tensor& z) { return w * z.roll(1, 0) + w * z.roll(-1, 0); }, shape, "H is not Hermitian");
  refused([](const Tensor& z) { return kI * z; }, shape, "H is not Hermitian");
  refused([](const Tensor& z) { return tp::fft(z); }, shape, "H is not Hermitian");
  refused([&](const Tensor& z) { return tp::ifft(tp::complex(0.0, w) * tp::fft(z)); }, shape,
          "H is not Hermitian");
  // Of one point in many: the defect is looked at element by element.
  Tensor sink = Tensor::zeros({4096}).clone();
  sink = tp::where(Tensor::arange(4096.0) == 77.0, 1e-6, sink);
  refused([&](const Tensor& z) { return hop(z) - kI * (sink * z); }, tp::Shape{4096}, "point [77]");
  // Beside a wall that is 1e15 times as high, too.
  const Tensor wall = tp::where(Tensor::arange(12.0) < 3.0, 1e15, 0.0), sinks = tp::where(w > 0.9, 1.0, 0.0);
  refused([&](const Tensor& z) { return hop(z) + tp::complex(wall, -sinks) * z; }, shape, "point [11]");
}

TEST_CASE("hamiltonian: bad input") {
  const tp::Shape shape{8};
  refused([](const Tensor& z) { return z.slice(0, 0, 4); }, shape,
          "H psi is complex128[4], it must be complex128[8]");
  refused([](const Tensor& z) { return z.astype(tp::DType::kComplex64); }, shape, "H psi is complex64[8]");
  refused(
      [](const Tensor& z) {
        return tp::Tensor::from({1.0, std::nan(""), 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}) * z;
      },
      shape, "at point [1]");
  refused([](const Tensor& z) { return z / Tensor::arange(8.0); }, shape, "at point [0]");
  refused(hop, tp::Shape{}, "no axes");
  refused(hop, tp::Shape{0}, "no elements");
  refused(tp::Schroedinger::Hamiltonian(), shape, "empty function");
  CHECK_THROWS_WITH_AS(tp::Schroedinger(hop, shape, {.hbar = 0.0}), Contains("hbar is 0"), tp::Error);
  const tp::Schroedinger h(hop, shape);
  const Tensor psi = at_site(8, 3);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .steps = 3}), Contains("no T and V"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .steps = 3, .method = tp::Method::Loop}),
                       Contains("no T and V"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(at_site(7, 3), {.t_end = 1.0, .method = kSeries}), Contains("complex128[7]"),
                       tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.t_end = 1.0, .method = kSeries, .tol = 1e-15}), Contains("tol"),
                       tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.t_end = std::nan(""), .method = kSeries}), Contains("t_end is nan"),
                       tp::Error);
  CHECK_THROWS_WITH_AS(h.energy(0.0 * psi).item<double>(), Contains("psi is 0 everywhere"), tp::Error);
  CHECK_THROWS_WITH_AS(h.normalised(0.0 * psi).realize(), Contains("psi is 0 everywhere"), tp::Error);
  CHECK_THROWS_WITH_AS(
      h.evolve(0.0 * psi, {.t_end = 1.0, .method = kSeries, .imaginary = true}).psi.realize(),
      Contains("psi is 0"), tp::Error);
}

TEST_CASE("hamiltonian: the bounds hold the spectrum; a hundredth too small is found out") {
  const tp::Schroedinger ring(hop, tp::Shape{64});
  const Tensor psi = at_site(64, 10);
  const auto with = [&](double half) {
    return ring.evolve(psi, {.t_end = 300.0, .method = kSeries, .spectrum = std::pair{-half, half}})
        .psi.realize();
  };
  CHECK_NOTHROW(with(2.0));
  CHECK_THROWS_WITH_AS(with(1.98), Contains("is not within centre"), tp::Error);
  CHECK(apart(with(2.0), ring.evolve(psi, {.t_end = 300.0, .method = kSeries}).psi) < 1e-12);

  // Diagonals of many kinds: both ends are held, and by not much more than the accuracy asked for.
  for (const int kind : {0, 1, 2, 3}) {
    CAPTURE(kind);
    std::vector<double> e(500);
    for (std::size_t i = 0; i < e.size(); ++i) {
      const double u = static_cast<double>(i) / 499.0;
      e[i] = kind == 0   ? u
             : kind == 1 ? u * u * u * 1e4 - 3
             : kind == 2 ? std::cos(3 * u)
             : i == 250  ? -40.0
                         : u;
    }
    std::vector<Complex> start;
    for (std::size_t i = 0; i < e.size(); ++i)
      start.emplace_back(std::sin(7.0 + 5.1 * static_cast<double>(i * i)), 0.3);
    const tp::LanczosBounds b = tp::lanczos_bounds(
        [&](const std::vector<Complex>& v) {
          std::vector<Complex> out = v;
          for (std::size_t i = 0; i < out.size(); ++i) out[i] *= e[i];
          return out;
        },
        start, 64, 0.01);
    const auto [least, largest] = std::minmax_element(e.begin(), e.end());
    const double width = *largest - *least;
    CHECK(b.low <= *least + 0.01 * width);
    CHECK(b.high >= *largest - 0.01 * width);
    CHECK(b.low >= *least - 0.02 * width);
    CHECK(b.high <= *largest + 0.02 * width);
    CHECK(b.steps < 64);
  }
}

TEST_CASE("hamiltonian: gradients go to what H is made of") {
  const tp::Shape shape{32};
  const Tensor psi = at_site(32, 9);
  // |psi_9|^2 = J_0(2 g t)^2, and its derivative by g is -4 t J_0 J_1.
  const auto stays = [&](const Tensor& g) {
    const tp::Schroedinger ring([&](const Tensor& z) { return g * hop(z); }, shape);
    const Tensor end =
        ring.evolve(psi, {.t_end = 1.3, .method = kSeries, .spectrum = std::pair{-2.5, 2.5}}).psi;
    return tp::square(tp::abs(end.slice(0, 9, 10))).sum();
  };
  const double g = 0.8, x = 2 * g * 1.3;
  CHECK(stays(Tensor(g)).item<double>() ==
        doctest::Approx(std::pow(std::cyl_bessel_j(0, x), 2)).epsilon(1e-12));
  CHECK(tp::grad(stays)(Tensor(g)).item<double>() ==
        doctest::Approx(-4 * 1.3 * std::cyl_bessel_j(0, x) * std::cyl_bessel_j(1, x)).epsilon(1e-11));
  const auto no_spectrum = [&](const Tensor& c) {
    const tp::Schroedinger ring([&](const Tensor& z) { return c * hop(z); }, shape);
    return tp::abs(ring.evolve(psi, {.t_end = 1.0, .method = kSeries}).psi.slice(0, 9, 10)).sum();
  };
  CHECK_THROWS_WITH_AS(tp::grad(no_spectrum)(Tensor(g)), Contains("give .spectrum"), tp::Error);
  const auto no_proof = [&](const Tensor& c) {
    const tp::Schroedinger ring([&](const Tensor& z) { return tp::matmul(c, z); }, tp::Shape{2});
    return tp::abs(ring.apply(Tensor::ones({2}))).sum();
  };
  CHECK_THROWS_WITH_AS(tp::grad(no_proof)(Tensor::ones({2, 2})), Contains("being traced"), tp::Error);
}
