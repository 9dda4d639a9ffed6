// Complex values through loops, devices, jit, vmap and derivatives: what they are lowered to means the same everywhere.
#include <complex>
#include <functional>

#include "derive/complex.hpp"
#include "engine/engine.hpp"
#include "support/env.hpp"
#include "test_tensor_helpers.hpp"
#include "tinyphys/explain.hpp"
#include "tinyphys/jit.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/transforms.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/spec.hpp"

namespace tinyphys::testing {
namespace {

using C = std::complex<double>;
using Cs = std::vector<C>;
const C i1(0, 1);

Cs values(const Tensor& z) { return z.to_vector<C>(); }
bool near(const Cs& a, const Cs& b, double relative) {
  double difference = 0, size = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    difference = std::max(difference, std::abs(a[k] - b[k]));
    size = std::max(size, std::abs(b[k]));
  }
  return a.size() == b.size() && difference <= relative * size;
}
Cs start() { return {{0.3, 0.8}, {-1.1, 0.4}, {0.7, -0.6}, {-0.5, -0.9}, {1.2, 0.1}, {0.2, 1.3}}; }
Tensor fresh() { return Tensor::from(start(), {2, 3}); }

// Most of what complex numbers go through.
Tensor tour(const Tensor& z) {
  const Tensor w = exp(z * i1) / (1.5 + sqrt(z)) + conj(z) * real(z) - log(z + 3.0);
  const Tensor m = matmul(w, w.transpose()) * 0.1;
  const Tensor s = sin(z) * tanh(z).roll(1, 1) + cat({z.slice(1, 1), z.slice(1, 0, 1)}, 1).cumsum(0);
  return w + s * m.sum(1, true) + where(abs(z) < 1.0, cosh(z), pow(z, 3)) + z.prod(1, true) +
         gather(w, Tensor::from({2, 0, 1}), 1);
}

Tensor rotate(const Tensor& z) { return z * C(0.6, 0.8) + C(0.01, -0.02); }

}  // namespace

TEST_CASE("complex graphs: every device, with passes and without, gives the same values") {
  Cs by_default = values(tour(fresh())), others;
  const auto on = [&](const char* device, const char* opt) {
    const env::ScopedOverride where("TINYPHYS_DEVICE", device), passes("TINYPHYS_OPT", opt);
    return values(tour(fresh()));
  };
  CHECK(near(by_default, on("interp", "0"), 1e-14));
  CHECK(near(by_default, on("interp", "1"), 1e-14));
  CHECK(near(by_default, on("cpu", "0"), 1e-14));
  CHECK(near(by_default, on("cpu", "1"), 1e-14));
  CHECK(near(by_default, values(tour(fresh().to("island"))), 1e-14));
  // And a loop that is no jump, with its gradient.
  const auto loop = [](const Tensor& z) {
    return scan([](const Tensor& w) { return w * 0.9 + 0.1 * i1 * sin(w) * conj(w); }, z, 20);
  };
  const auto both = [&] {
    const Tensor z = fresh();
    return values(cat({loop(z), grad([&](const Tensor& x) { return abs(loop(x)).sum(); })(z)}));
  };
  by_default = both();
  for (const char* device : {"interp", "cpu"})
    for (const char* opt : {"0", "1"}) {
      const env::ScopedOverride where("TINYPHYS_DEVICE", device), passes("TINYPHYS_OPT", opt);
      CHECK(near(by_default, both(), 1e-13));
    }
}

TEST_CASE(
    "complex graphs: what no complex number may go through is found by the spec; none is left in a program") {
  const auto refused = [](const UOp& u, Stage stage) {
    Node* n = u.get();
    return message([&] { verify(std::span<Node* const>(&n, 1), stage); });
  };
  const UOp z = uop(fresh()), p = param(0, DType::kComplex128, Dims{2});
  CHECK(refused(make(Op::EXP, {z}), Stage::kTensor) == "nothing was thrown");
  CHECK(refused(make(Op::ABS, {z}), Stage::kTensor).find("become real by AS_REAL alone") !=
        std::string::npos);
  CHECK(refused(make(Op::FLOOR, {z}), Stage::kTensor).find("become real by AS_REAL alone") !=
        std::string::npos);
  CHECK(refused(cast(z, DType::kFloat64), Stage::kTensor).find("AS_REAL alone") != std::string::npos);
  CHECK(refused(lambda_of(std::vector{make(Op::EXP, {p})}, 1), Stage::kProgram)
            .find("no complex number is left") != std::string::npos);
  const UOp lowered = lower_complex_program(lambda_of(std::vector{make(Op::EXP, {p})}, 1));
  CHECK(refused(lowered, Stage::kProgram) == "nothing was thrown");
  CHECK(lower_complex_program(lowered) == lowered);
  CHECK_THROWS_AS(make(Op::CONJ, {uop(counting({2}))}), Error);
  CHECK_THROWS_AS(make(Op::AS_COMPLEX, {uop(counting({3}))}), Error);
}

TEST_CASE("complex graphs: an index out of range is told at the user's line") {
  const Tensor index = Tensor::from({0, 7}) + 0;
  const unsigned line = __LINE__ + 1;
  const Tensor taken = gather(fresh(), index, 1);
  const std::string text = message([&] { values(taken); });
  CHECK(text.find("[gather] index 7 is out of range for an axis of 3 (test_complex_graphs.cpp:" +
                  std::to_string(line) + ")") != std::string::npos);
}

TEST_CASE("complex graphs: a program is planned once for all numbers in it, and real ones do not change") {
  const auto run = [](double dt) { return values(fresh() * C(0, dt) + dt * conj(fresh())); };
  run(0.1);
  const auto before = plan_counts();
  run(0.3);
  CHECK(plan_counts().made == before.made);
  CHECK(plan_counts().reused == before.reused + 1);
  const Tensor x = counting({4}) * 2.0;
  CHECK((uop(x)->flags & Node::kHasComplex) == 0);
  CHECK((uop(real(fresh()))->flags & Node::kHasComplex) != 0);
}

TEST_CASE("complex graphs: a realized value goes on, and is the bytes of std::complex") {
  const Tensor z = fresh(), w = (z * z).realize();
  CHECK(near(values(w + z), values(fresh() * fresh() + fresh()), 1e-15));
  const Tensor re = real(w).realize();
  for (std::size_t k = 0; k < 6; ++k) CHECK(doubles(re)[k] == values(w)[k].real());
  Tensor x = fresh();
  for (int k = 0; k < 50; ++k) x = (x * C(0.6, 0.8)).realize();
  Cs expected = start();
  for (C& v : expected) v *= std::pow(C(0.6, 0.8), 50);
  CHECK(near(values(x), expected, 1e-13));
}

TEST_CASE("complex graphs: a linear scan jumps, and says so; a nonlinear one stays a loop") {
  const C factor = std::polar(0.9999, 0.01);
  const auto step = [&](const Tensor& z) { return z * factor; };
  const Tensor jumped = scan(step, fresh(), 100000);
  const std::string report = explain(jumped).text;
  CAPTURE(report);
  CHECK(report.find("jump") != std::string::npos);
  const Tensor looped = scan(step, fresh(), 1000, {.method = Method::Loop}), some = scan(step, fresh(), 1000);
  Cs expected = start();
  for (C& v : expected) v *= std::pow(factor, 1000);
  CHECK(near(values(looped), expected, 1e-12));
  CHECK(near(values(some), expected, 1e-12));
  Cs far = start();
  for (C& v : far) v *= std::exp(100000.0 * std::log(factor));
  CHECK(near(values(jumped), far, 1e-9));

  const auto cubic = [](const Tensor& z) { return z * 0.999 - 0.01 * i1 * z * real(conj(z) * z); };
  const Tensor nonlinear = scan(cubic, fresh(), 200);
  CHECK(explain(nonlinear).text.find("jump (") == std::string::npos);
  Cs by_hand = start();
  for (int n = 0; n < 200; ++n)
    for (C& v : by_hand) v = v * 0.999 - 0.01 * i1 * v * std::norm(v);
  CHECK(near(values(nonlinear), by_hand, 1e-12));
}

TEST_CASE("complex graphs: scans with complex xs, outputs and captured values, within scans, and an end") {
  const Tensor kicks = Tensor::from(Cs{{1, 0}, {0, 1}, {-1, 0.5}}), k = Tensor::from(Cs{{0.5, 0.5}})[0];
  const auto [last, all] = scan(
      [&](const Tensor& z, const Tensor& kick) {
        const Tensor inner = scan([&](const Tensor& w) { return w * k + conj(z); }, z + kick, 3);
        return std::pair{inner, abs(inner) + z};
      },
      Tensor(C(1, 2)), 3, {.xs = {kicks}});
  C z(1, 2);
  Cs outs;
  for (const C kick : values(kicks)) {
    C w = z + kick;
    for (int n = 0; n < 3; ++n) w = w * C(0.5, 0.5) + std::conj(z);
    outs.push_back(std::abs(w) + z);
    z = w;
  }
  CHECK(near(values(last), {z}, 1e-14));
  CHECK(near(values(all), outs, 1e-14));
  const Tensor ended = scan([](const Tensor& w) { return w * C(0, 1.1); }, Tensor(C(1, 0)), 100,
                            {.until = [](const Tensor& w) { return abs(w) > 2.0; }});
  CHECK(near(values(ended), {std::pow(C(0, 1.1), 8)}, 1e-13));
}

TEST_CASE("complex graphs: a plain loop is folded, and means the same") {
  Tensor z = fresh(), w = fresh();
  for (int n = 0; n < 20000; ++n) {
    z = rotate(z);
    w = w * 0.9999 + 1e-4 * i1 * sin(z);
  }
  Cs a = start(), b = start();
  for (int n = 0; n < 20000; ++n)
    for (std::size_t k = 0; k < a.size(); ++k) {
      a[k] = a[k] * C(0.6, 0.8) + C(0.01, -0.02);
      b[k] = b[k] * 0.9999 + 1e-4 * i1 * std::sin(a[k]);
    }
  const std::string report = explain(w).text;
  CAPTURE(report);
  CHECK(near(values(w), b, 1e-10));
  CHECK(near(values(z), a, 1e-10));
  CHECK(report.find("test_complex_graphs.cpp") != std::string::npos);
}

TEST_CASE("complex graphs: a value does not depend on what was realized on the way") {
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor x = Tensor::from({-2.0, 0.0, 3.0, inf}),
               z = Tensor::from(Cs{{inf, 1}, {-1, -0.0}, {0.0, inf}, {1, 2}});
  const auto same = [](const Tensor& a, const Tensor& b) {
    const Cs u = values(a), v = values(b);
    for (std::size_t k = 0; k < u.size(); ++k)
      for (const auto& [p, q] : {std::pair{u[k].real(), v[k].real()}, std::pair{u[k].imag(), v[k].imag()}})
        CHECK(((std::isnan(p) && std::isnan(q)) || (p == q && std::signbit(p) == std::signbit(q))));
  };
  const auto made = [&] { return x.astype(DType::kComplex128); };
  for (const auto& f : {sin, sqrt, exp, log, tanh})
    same(sqrt(f(made())), sqrt(f(made().realize()).realize()));
  same(z * made() + conj(z) * x, z * made().realize() + conj(z).realize() * x);
  same((z + x) * (z / x), (z + x).realize() * (z / x).realize());
  same(x / z - made() / z, (x / z).realize() - made().realize() / z);
  CHECK(values(z * x)[0] == C(-inf, -2));  // as in C++; NumPy has (nan, nan)
}

TEST_CASE("complex graphs: jit and vmap") {
  int runs = 0;
  const auto f = jit([&](const Tensor& z, const Tensor& x) {
    ++runs;
    return tour(z) * x;
  });
  for (const double s : {1.0, 0.5, 2.0}) {
    const Tensor z = (fresh() * s).realize(), x = Tensor::from({s});
    CHECK(near(values(f(z, x)), values(tour(fresh() * s) * s), 1e-14));
  }
  CHECK(runs == 1);
  const Tensor shared = Tensor::from(Cs{{0.5, 1}, {2, -1}, {0, 0.25}});
  const auto row = [&](const Tensor& z) {
    const Tensor w = scan([&](const Tensor& y) { return y * C(0.6, 0.8) + z * shared; }, z, 5);
    return std::pair{w * conj(shared) + abs(z), dot(z, shared)};
  };
  const auto [all, dots] = vmap(row)(fresh());
  for (std::int64_t r = 0; r < 2; ++r) {
    const auto [one, product] = row(fresh()[r]);
    CHECK(near(values(all[r]), values(one), 1e-14));
    CHECK(near(values(dots[r]), values(product), 1e-14));
  }
}

TEST_CASE("complex graphs: an energy may be made by way of complex numbers") {
  const Tensor phase = Tensor::from(Cs{{0.6, 0.8}, {0, 1}});
  const auto by_complex = [&](const Tensor& q, const Tensor& p) {
    const Tensor psi = complex(q, p) * phase;
    return 0.5 * real(psi * conj(psi)).sum();
  };
  const System sys(by_complex);
  const System plain([](const Tensor& q, const Tensor& p) { return 0.5 * (q * q + p * p).sum(); });
  const Tensor q = Tensor::from({0.3, -1.0}), p = Tensor::from({0.5, 0.25});
  CHECK(sys.energy({q, p}).item<double>() == doctest::Approx(plain.energy({q, p}).item<double>()));
  const EvolveOptions options{.dt = 0.01, .steps = 1000, .integrator = Integrator::ImplicitMidpoint};
  CHECK(close(doubles(sys.evolve({q, p}, options).q), doubles(plain.evolve({q, p}, options).q), 1e-10));
}

// --- derivatives ------------------------------------------------------------------------------------------

namespace {

using F = std::function<Tensor(const Tensor&)>;

const Cs& weights() {
  static const Cs w{{0.7, -0.2}, {-0.4, 1.1}, {0.9, 0.3}, {0.5, 0.6}, {-1.0, 0.2}, {0.1, -0.8}};
  return w;
}
// Re(sum(w f)) of a complex or real f of any shape.
Tensor weighed(const Tensor& f) {
  const std::int64_t n = f.size();
  const Tensor all = cat({Tensor::from(weights()), Tensor::from(weights()) * C(0.3, 0.9),
                          Tensor::from(weights()) * C(-0.5, 0.4), Tensor::from(weights()) * C(0.2, -0.7)});
  return real((f.flatten() * all.slice(0, 0, n)).sum());
}

// Against central differences along re and im of each element; in fourth order, so that 1e-3 is small enough.
void check_gradient(const F& f, const Cs& at, const Shape& shape, double tolerance = 1e-9) {
  const auto loss = [&](const Tensor& z) { return weighed(f(z)); };
  const Cs g = values(grad(loss)(Tensor::from(at, shape)));
  const auto value = [&](std::size_t k, C step) {
    Cs moved = at;
    moved[k] += step;
    return loss(Tensor::from(moved, shape)).item<double>();
  };
  const auto slope = [&](std::size_t k, C direction) {
    constexpr double h = 1e-3;
    const auto d = [&](double s) { return value(k, s * direction) - value(k, -s * direction); };
    return (8 * d(h) - d(2 * h)) / (12 * h);
  };
  double size = 1;
  for (const C v : g) size = std::max(size, std::abs(v));
  for (std::size_t k = 0; k < at.size(); ++k) {
    CAPTURE(k);
    const C expected(slope(k, 1), -slope(k, i1));  // dL/dx - i dL/dy
    CHECK(std::abs(g[k] - expected) <= tolerance * size);
  }
}

// Re(sum(w J v)) by jvp and by vjp.
void check_duality(const F& f, const Cs& at, const Shape& shape, double tolerance) {
  Cs direction = weights();
  for (C& d : direction) d = std::conj(d) * C(0.4, 0.7);
  const Tensor z = Tensor::from(at, shape), v = Tensor::from(direction, shape);
  const auto [value, moved] = jvp(f, {z}, {v});
  CHECK(moved.dtype() == value.dtype());
  CHECK(moved.shape() == value.shape());
  const bool is_real = !is_complex(value.dtype());
  Cs w;
  for (std::int64_t k = 0; k < value.size(); ++k)
    w.push_back(C(0.3 + 0.1 * double(k), is_real ? 0 : 0.5 - 0.2 * double(k)));
  const Tensor weight = is_real ? real(Tensor::from(w, value.shape())) : Tensor::from(w, value.shape());
  const auto [same_value, pulled] = vjp(f, {z}, {weight});
  CHECK(pulled[0].dtype() == DType::kComplex128);
  const double forward = real((weight * moved).sum()).item<double>(),
               backward = real((pulled[0] * v).sum()).item<double>();
  CHECK(std::abs(forward - backward) <= tolerance * std::max(1.0, std::abs(forward)));
}

}  // namespace

TEST_CASE("complex gradients: every function against central differences, and jvp against vjp") {
  const Tensor c = Tensor::from(Cs{{0.5, 1}, {2, -1}, {0.3, 0.25}}),
               x = Tensor::from({{0.5, 2.0, -1.0}, {1.5, 0.7, 0.2}});
  const Tensor index = Tensor::from({2, 0, 2});
  const std::vector<std::pair<const char*, F>> functions{
      {"add", [&](const Tensor& z) { return z + c; }},
      {"subtract from", [&](const Tensor& z) { return c - z * 2.0; }},
      {"multiply", [&](const Tensor& z) { return z * c * z; }},
      {"multiply by a real", [&](const Tensor& z) { return z * x; }},
      {"divide", [&](const Tensor& z) { return c / z; }},
      {"divide by", [&](const Tensor& z) { return z / (c + z * z); }},
      {"divide by a real", [&](const Tensor& z) { return z / x; }},
      {"negate", [](const Tensor& z) { return -z; }},
      {"conj", [](const Tensor& z) { return conj(z) * z * z; }},
      {"real", [](const Tensor& z) { return real(z * z); }},
      {"imag", [](const Tensor& z) { return imag(z * z); }},
      {"abs", [](const Tensor& z) { return abs(z); }},
      {"angle", [](const Tensor& z) { return angle(z); }},
      {"complex", [](const Tensor& z) { return complex(real(z) * imag(z), square(imag(z))); }},
      {"of parts", [](const Tensor& z) { return real(z) * z; }},
      {"exp", [](const Tensor& z) { return exp(z); }},
      {"log", [](const Tensor& z) { return log(z); }},
      {"sqrt", [](const Tensor& z) { return sqrt(z); }},
      {"rsqrt", [](const Tensor& z) { return rsqrt(z); }},
      {"sin", [](const Tensor& z) { return sin(z); }},
      {"cos", [](const Tensor& z) { return cos(z); }},
      {"tan", [](const Tensor& z) { return tan(z); }},
      {"sinh", [](const Tensor& z) { return sinh(z); }},
      {"cosh", [](const Tensor& z) { return cosh(z); }},
      {"tanh", [](const Tensor& z) { return tanh(z); }},
      {"square", [](const Tensor& z) { return square(z); }},
      {"pow 3", [](const Tensor& z) { return pow(z, 3); }},
      {"pow -2", [](const Tensor& z) { return pow(z, -2); }},
      {"pow 1.5", [](const Tensor& z) { return pow(z, 1.5); }},
      {"pow c", [&](const Tensor& z) { return pow(z, c); }},
      {"c pow", [&](const Tensor& z) { return pow(c, z); }},
      {"where", [&](const Tensor& z) { return where(abs(z) < 1.0, z * z, conj(z)); }},
      {"movement",
       [](const Tensor& z) {
         return z.transpose().flip(0).roll(1, 0).slice(0, 2, kEnd, -2).pad({{0, 1}, {1, 0}}) * 2.0;
       }},
      {"cat and expand",
       [](const Tensor& z) {
         return cat({z[0].expand({2, 3}) * z, z}, 0);
       }},
      {"sum", [](const Tensor& z) { return (z * z).sum(0); }},
      {"mean", [](const Tensor& z) { return (z * z).mean(1); }},
      {"prod", [](const Tensor& z) { return z.prod(1); }},
      {"prod of all", [](const Tensor& z) { return z.prod(); }},
      {"norm", [](const Tensor& z) { return z.norm(1); }},
      {"cumsum", [](const Tensor& z) { return (z * z).cumsum(1); }},
      {"matmul", [](const Tensor& z) { return matmul(z, (z * z).transpose()); }},
      {"matmul with a real", [&](const Tensor& z) { return matmul(x.transpose(), z); }},
      {"gather", [&](const Tensor& z) { return gather(z * z, index, 1); }},
      {"scatter_add", [&](const Tensor& z) { return scatter_add(z, index, z * z, 1); }},
      {"set", [](const Tensor& z) { return set(z, 1, z[0] * z[1]); }},
      {"complex64",
       [](const Tensor& z) { return z.astype(DType::kComplex64).astype(DType::kComplex128) * z; }},
      {"scan",
       [&](const Tensor& z) {
         return scan([&](const Tensor& w) { return w * c * 0.4 + sin(z) * conj(w); }, z, 4);
       }},
      {"scan to an end",
       [&](const Tensor& z) {
         return scan([&](const Tensor& w) { return w * z * 0.9 + c; }, z, 9,
                     {.until = [](const Tensor& w) { return w.norm() > 40.0; }});
       }},
      {"a linear scan",
       [&](const Tensor& z) { return scan([&](const Tensor& w) { return w * c * 0.4; }, z * z, 6); }},
  };
  for (const auto& [name, f] : functions) {
    CAPTURE(std::string(name));
    const bool rounded =
        std::string_view(name) == "complex64";  // differences of it are noise, and its derivatives float32
    if (!rounded) check_gradient(f, start(), {2, 3});
    check_duality(f, start(), {2, 3}, rounded ? 1e-6 : 1e-12);
  }
}

TEST_CASE("complex gradients: the convention, real arguments, and 0") {
  const Tensor z = Tensor::from({C(1, 2)});
  // Of a complex differentiable f the gradient of Re f is f', as in JAX.
  const Cs g = values(grad([](const Tensor& x) { return real(exp(x)).sum(); })(z));
  CHECK(near(g, {std::exp(C(1, 2))}, 1e-15));
  CHECK(near(values(grad([](const Tensor& x) { return imag(x * x).sum(); })(z)), {C(4, -2)}, 1e-15));
  CHECK(near(values(grad([](const Tensor& x) { return real(x * conj(x)).sum(); })(z)), {C(2, -4)}, 1e-15));
  const Tensor x = Tensor::from({0.5});
  const auto by_real = grad([&](const Tensor& r) { return imag(exp(i1 * r) * z).sum(); })(x);
  CHECK(by_real.dtype() == DType::kFloat64);
  CHECK(by_real.item<double>() == doctest::Approx((i1 * std::exp(0.5 * i1) * C(1, 2)).imag()));
  CHECK(grad([](const Tensor& w) { return abs(w).sum(); })(Tensor::from({C(0, 0)})).item<C>() == C(0, 0));
  // On a graph that is there: by a leaf, by a value between, and through a realized one.
  const Tensor leaf = Tensor::from({C(0.5, -1)}), between = (leaf * leaf).realize(),
               loss = real(between * between).sum();
  const auto d = gradient(loss, {leaf, between});
  CHECK(near(values(d[0]), {4.0 * std::pow(C(0.5, -1), 3)}, 1e-15));
  CHECK(near(values(d[1]), {2.0 * std::pow(C(0.5, -1), 2)}, 1e-15));
  const auto [value, slope] = value_and_grad([](const Tensor& w) { return abs(w * w).sum(); })(z);
  CHECK(value.item<double>() == doctest::Approx(5));
  CHECK(near(values(slope), {2.0 * std::conj(C(1, 2))}, 1e-14));  // |w|^2
  // Twice: the gradient of |grad Re(w^3)|^2 = 9 |w|^4 is 36 |w|^2 conj(w).
  const auto inner = [](const Tensor& w) { return real(pow(w, 3)).sum(); };
  const auto outer = [&](const Tensor& w) { return square(abs(grad(inner)(w))).sum(); };
  CHECK(near(values(grad(outer)(z)), {36.0 * 5.0 * std::conj(C(1, 2))}, 1e-13));
  // Twice through a loop.
  const auto loop = [](const Tensor& w) {
    return real(scan([](const Tensor& y) { return y * y * 0.5; }, w, 2) * i1).sum();
  };
  const auto again = [&](const Tensor& w) { return real(grad(loop)(w) * C(1, 1)).sum(); };
  // loop = Re(i w^4 / 8); its gradient i w^3 / 2; Re((1 + i) i w^3 / 2) has the gradient (1 + i) i 3 w^2 / 2.
  CHECK(near(values(grad(again)(z)), {C(1, 1) * i1 * 1.5 * C(1, 2) * C(1, 2)}, 1e-13));
}

TEST_CASE("complex gradients: what is no real scalar is an error") {
  const Tensor z = Tensor::from({C(1, 2)});
  CHECK(message([&] {
          grad([](const Tensor& x) { return (x * x).sum(); })(z);
        }).find("what f returns is complex128[]: it must be real") != std::string::npos);
  CHECK(message([&] { gradient((z * z).sum(), {z}); }).find("the loss is complex128[]") != std::string::npos);
  CHECK(message([&] { grad([](const Tensor& x) { return abs(x); })(z); }).find("must be a scalar") !=
        std::string::npos);
  CHECK(message([&] { hessian([](const Tensor& x) { return abs(x).sum(); })(z); }).find("by the parts") !=
        std::string::npos);
  CHECK(message([&] {
          vjp([](const Tensor& x) { return x * x; }, {z}, {Tensor::from({1.0})});
        }).find("cotangent 0 is float64") != std::string::npos);
}

}  // namespace tinyphys::testing
