// Complex tensors against std::complex, and against their own real parts.
#include <array>
#include <complex>
#include <filesystem>
#include <fstream>
#include <limits>
#include <unistd.h>

#include "support/env.hpp"
#include "test_tensor_helpers.hpp"
#include "tinyphys/jit.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/transforms.hpp"

namespace tinyphys::testing {
namespace {

using C = std::complex<double>;
using Cf = std::complex<float>;
using Cs = std::vector<C>;

constexpr double kInf = std::numeric_limits<double>::infinity(), kEps = 0x1p-52;
const double kNan = std::numeric_limits<double>::quiet_NaN();
const C i1(0, 1);

Cs values(const Tensor& z) { return z.to_vector<C>(); }

bool same_part(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}
bool same_bits(C a, C b) { return same_part(a.real(), b.real()) && same_part(a.imag(), b.imag()); }

// |a - b| in units of eps |b|.
double ulps(C a, C b) {
  if (a == b) return 0;
  return std::abs(a - b) / (kEps * std::abs(b));
}
template <class F> double worst_ulps(const Cs& z, const Tensor& t, F&& f) {
  const Cs got = values(t);
  REQUIRE(got.size() == z.size());
  double worst = 0;
  for (std::size_t k = 0; k < z.size(); ++k) {
    const double u = ulps(got[k], f(z[k]));
    if (!(u <= worst)) worst = u;
    if (!(u < 40)) MESSAGE("at ", z[k], ": ", got[k], ", not ", f(z[k]));
  }
  return worst;
}

Cs grid() {
  Cs z;
  for (const double r : {1e-3, 0.3, 0.7, 1.0, 1.0000001, 1.7, 3.0, 12.0, 19.5, 20.5})
    for (int k = 0; k < 16; ++k) z.push_back(std::polar(r, 0.1 + 0.39 * k));
  return z;
}

}  // namespace

TEST_CASE("complex: names, sizes and the C++ types") {
  CHECK(name(DType::kComplex64) == "complex64");
  CHECK(name(DType::kComplex128) == "complex128");
  CHECK(item_size(DType::kComplex64) == 8);
  CHECK(item_size(DType::kComplex128) == 16);
  CHECK(dtype_of<Cf>() == DType::kComplex64);
  CHECK(dtype_of<C>() == DType::kComplex128);
  CHECK(real_dtype(DType::kComplex64) == DType::kFloat32);
  CHECK(complex_dtype(DType::kInt32) == DType::kComplex128);
  CHECK_FALSE(is_float(DType::kComplex64));
}

TEST_CASE("complex: creation and values") {
  const Cs given{{1, 2}, {-0.5, 3}, {0, -1}};
  const Tensor z = Tensor::from(given);
  CHECK(z.dtype() == DType::kComplex128);
  CHECK(z.shape() == Shape{3});
  CHECK(values(z) == given);
  CHECK(Tensor::from({C(1, 2), C(3, 4)}, {2, 1}).shape() == Shape{2, 1});
  CHECK(Tensor::from(std::vector<Cf>{{1, 2}}).item<Cf>() == Cf(1, 2));
  CHECK(Tensor(C(2, -3)).item<C>() == C(2, -3));
  CHECK(values(Tensor::zeros({2}, DType::kComplex128)) == Cs{0, 0});
  CHECK(values(Tensor::ones({2}, DType::kComplex128)) == Cs{1, 1});
  CHECK(values(Tensor::full({2}, C(1, 2))) == Cs{{1, 2}, {1, 2}});
  CHECK(values(Tensor::full({1}, 3, DType::kComplex128)) == Cs{3});
  CHECK(values(Tensor::eye(2, -1, DType::kComplex128)) == Cs{1, 0, 0, 1});
  CHECK(values(full_like(z, i1)) == Cs{i1, i1, i1});
  CHECK(values(complex(Tensor::from({1.0, 2.0}), 0.5)) == Cs{{1, 0.5}, {2, 0.5}});
  CHECK(complex(Tensor::from({1.0f}), 0.5).dtype() == DType::kComplex64);
  CHECK(complex(Tensor::from({1}), Tensor::from({2.0f})).dtype() == DType::kComplex128);
  CHECK(values(z.clone()) == given);
  CHECK(values(z.realize()) == given);
  CHECK(allclose(z, z + C(1e-12, 1e-12)));
  CHECK_FALSE(allclose(z, z + C(0, 1e-3)));
  CHECK_FALSE(allclose(z, real(z)));
}

TEST_CASE("complex: promotion is NumPy's, numbers are weak") {
  const auto of = [](DType d) { return Tensor::ones({2}, d); };
  const auto sum = [&](DType a, DType b) { return (of(a) + of(b)).dtype(); };
  constexpr DType c64 = DType::kComplex64, c128 = DType::kComplex128;
  CHECK(sum(c64, DType::kFloat32) == c64);
  CHECK(sum(c64, DType::kBool) == c64);
  CHECK(sum(c64, DType::kFloat64) == c128);
  CHECK(sum(c64, DType::kInt32) == c128);
  CHECK(sum(c64, DType::kInt64) == c128);
  CHECK(sum(c64, c128) == c128);
  CHECK(sum(c128, DType::kFloat32) == c128);
  CHECK((of(c64) * 2).dtype() == c64);
  CHECK((of(c64) * 2.5).dtype() == c64);
  CHECK((of(c64) * C(0, 1)).dtype() == c64);
  CHECK((of(DType::kFloat32) * C(0, 1)).dtype() == c64);
  CHECK((of(DType::kFloat64) * C(0, 1)).dtype() == c128);
  CHECK((C(0, 1) - of(DType::kInt32)).dtype() == c128);
  CHECK((of(DType::kBool) + Cf(0, 1)).dtype() == c128);
  CHECK(cat({of(DType::kFloat64), of(c64)}).dtype() == c128);
  CHECK(where(of(DType::kBool), of(DType::kFloat32), C(0, 2)).dtype() == c64);
  CHECK(of(DType::kFloat32).astype(c128).dtype() == c128);
  CHECK(values(Tensor::from({Cf(0.1f, 2)}).astype(c128)) == Cs{C(Cf(0.1f, 2))});
  CHECK(Tensor::from({C(0.1, 2)}).astype(c64).item<Cf>() == Cf(0.1f, 2));
  CHECK(Tensor::from({C(0, 0), C(0, 2)}).astype(DType::kBool).to_vector<bool>() == Bools{false, true});
  Tensor z = Tensor::from({Cf(1, 2)});
  z *= 2.0;
  CHECK(z.dtype() == c64);
}

TEST_CASE("complex: parts") {
  const Cs given{{1, 2}, {-0.5, 3}, {0, -1}, {-2, -0.0}};
  const Tensor z = Tensor::from(given);
  CHECK(doubles(real(z)) == Doubles{1, -0.5, 0, -2});
  CHECK(doubles(imag(z)) == Doubles{2, 3, -1, 0});
  CHECK(values(conj(z)) == Cs{{1, -2}, {-0.5, -3}, {0, 1}, {-2, 0}});
  const Doubles a = doubles(angle(z));
  for (std::size_t k = 0; k < given.size(); ++k) CHECK(a[k] == doctest::Approx(std::arg(given[k])));
  CHECK(a[3] < 0);  // below the cut
  CHECK(real(Tensor::from({Cf(1, 2)})).dtype() == DType::kFloat32);
  const Tensor x = Tensor::from({-1.0, 2.0});
  CHECK(doubles(real(x)) == Doubles{-1, 2});
  CHECK(doubles(imag(x)) == Doubles{0, 0});
  CHECK(doubles(conj(x)) == Doubles{-1, 2});
  CHECK(doubles(angle(x))[0] == doctest::Approx(M_PI));
  CHECK(values(complex(real(z), imag(z))) == given);
}

TEST_CASE("complex: printed as NumPy prints") {
  CHECK(to_string(Tensor(C(1, 2))) == "(1+2j)");
  CHECK(to_string(Tensor(C(0, -1.5))) == "-1.5j");
  CHECK(to_string(Tensor(C(-0.0, 1))) == "(-0+1j)");
  CHECK(to_string(Tensor(C(kNan, kInf))) == "(nan+infj)");
  CHECK(to_string(Tensor::from({C(1, 2), C(1.5, -2.25)})) == "[1. +2.j   1.5-2.25j]");
  CHECK(to_string(Tensor::from({C(1, 2), C(-3, 4)})) == "[ 1.+2.j -3.+4.j]");
  CHECK(to_string(Tensor::from({C(1e10, 1), C(1, 2)})) == "[1.e+10+1.j 1.e+00+2.j]");
  CHECK(to_string(Tensor::from({C(1, kInf), C(kNan, -2)})) == "[ 1.+infj nan -2.j]");
  CHECK(to_string(Tensor::from({{C(1, 0)}, {C(0, 1)}})) == "[[1.+0.j]\n [0.+1.j]]");
  CHECK(to_string(Tensor::from({C(1, -2)}), ".2f") == "[1.00-2.00j]");
}

TEST_CASE("complex: .npy") {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("tinyphys_complex_" + std::to_string(getpid()) + ".npy"))
          .string();
  const Tensor z = Tensor::from({C(1, 2), C(-0.5, 1e-310), C(kInf, 0)}, {3, 1});
  save(path, z);
  std::ifstream f(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(f), {}};
  CHECK(bytes.find("'descr': '<c16'") != std::string::npos);
  CHECK(bytes.size() == 128 + 48);
  CHECK(load(path).shape() == Shape{3, 1});
  CHECK(values(load(path)) == values(z));
  save(path, z.astype(DType::kComplex64));
  CHECK(load(path).dtype() == DType::kComplex64);
  CHECK(load(path).to_vector<Cf>()[0] == Cf(1, 2));
  std::filesystem::remove(path);
  CHECK(message([&] { save("z.csv", z); }).find("holds real numbers") != std::string::npos);
}

TEST_CASE("complex: arithmetic is std::complex's") {
  const Cs a{{1.5, -2}, {3, 0.25}, {-1e-3, 7}, {1e200, -1e200}}, b{{0.5, 4}, {-2, 0.125}, {1e3, -7}, {3, 4}};
  const Tensor x = Tensor::from(a), y = Tensor::from(b), r = Tensor::from({2.0, -0.5, 3.0, 0.0});
  const Doubles s{2, -0.5, 3, 0};
  const Cs sum = values(x + y), difference = values(x - y), product = values(x * y), quotient = values(x / y),
           negative = values(-x), square_of = values(square(y)), scaled = values(x * r),
           divided = values(x / r), shifted = values(r - x), inverse = values(1.0 / y),
           weak = values(x * i1 + 2);
  for (std::size_t k = 0; k < a.size(); ++k) {
    CAPTURE(k);
    CHECK(sum[k] == a[k] + b[k]);
    CHECK(difference[k] == a[k] - b[k]);
    CHECK(ulps(product[k], a[k] * b[k]) <= 2);
    CHECK(ulps(quotient[k], a[k] / b[k]) <= 4);
    CHECK(negative[k] == -a[k]);
    CHECK(ulps(square_of[k], b[k] * b[k]) <= 2);
    CHECK(same_bits(scaled[k], {a[k].real() * s[k], a[k].imag() * s[k]}));
    CHECK(same_bits(divided[k], {a[k].real() / s[k], a[k].imag() / s[k]}));
    CHECK(same_bits(shifted[k], {s[k] - a[k].real(), -a[k].imag()}));
    CHECK(ulps(inverse[k], 1.0 / b[k]) <= 4);
    CHECK(weak[k] == a[k] * i1 + 2.0);
  }
  CHECK(bools(x == x) == Bools{true, true, true, true});
  CHECK(bools(Tensor::from({C(1, 2), C(1, 2), C(1, kNan)}) == Tensor::from({C(1, 2), C(1, 3), C(1, kNan)})) ==
        Bools{true, false, false});
  CHECK(bools(Tensor::from({C(1, 2), C(1, 0)}) != 1.0) == Bools{true, false});
  CHECK(values(where(Tensor::from({true, false}), i1, Tensor::from({1.0, 2.0}))) == Cs{i1, 2});
}

TEST_CASE("complex: a quotient and a modulus overflow only where they are out of range") {
  const auto quotient = [](C a, C b) { return values(Tensor::from({a}) / Tensor::from({b}))[0]; };
  const auto size = [](C a) { return abs(Tensor::from({a})).item<double>(); };
  constexpr double kMax = std::numeric_limits<double>::max(), kMin = std::numeric_limits<double>::min(),
                   kTiny = 5e-324;
  CHECK(quotient({kMax, kMax}, {kMax, kMax}) == C(1, 0));
  CHECK(quotient({kMax, -kMax}, {kMax, kMax}) == C(0, -1));
  CHECK(quotient({1, 1}, {1, 0x1p1023}) == C(0x1p-1023, -0x1p-1023));
  CHECK(quotient({0x1p1023, 0x1p-1023}, {0x1p677, 0x1p-677}) == C(0x1p346, -0x1p-1008));  // Baudin and Smith
  CHECK(quotient({0x1p-1074, 0x1p-1074}, {0x1p-1073, 0x1p-1074}) == C(0.6, 0.2));
  CHECK(quotient({kMin, kMin}, {kMin, 0}) == C(1, 1));
  CHECK(quotient({0x1p1000, 0x1p-1000}, {0x1p-20, 0}) == C(0x1p1020, 0x1p-980));
  CHECK(std::isinf(quotient({1, 0}, {0, 0}).real()));
  CHECK(std::isnan(quotient({0, 0}, {0, 0}).real()));
  CHECK(quotient({1, 2}, {kInf, 0}) == C(0, 0));
  CHECK(size({3, -4}) == 5);
  CHECK(size({0, -0.0}) == 0);
  CHECK(size({0.6 * kMax, 0.8 * kMax}) == doctest::Approx(kMax).epsilon(1e-15));
  CHECK(size({kMax, kMax}) == kInf);
  CHECK(size({kTiny, 0}) == kTiny);
  CHECK(size({3 * kTiny, 4 * kTiny}) == 5 * kTiny);
  CHECK(size({kNan, -kInf}) == kInf);
  CHECK(size({-kInf, 1}) == kInf);
  CHECK(std::isnan(size({kNan, 1})));
  for (const C z : grid()) CHECK(std::abs(size(z) - std::abs(z)) <= kEps * std::abs(z));
  CHECK(abs(Tensor::from({Cf(3e38f, 3e38f)})).dtype() == DType::kFloat32);
  CHECK(abs(Tensor::from({Cf(3e30f, 4e30f)})).item<float>() == 5e30f);
}

TEST_CASE("complex: functions are std::complex's to some units in the last place") {
  const Cs z = grid();
  const Tensor t = Tensor::from(z);
  CHECK(worst_ulps(z, exp(t), [](C x) { return std::exp(x); }) <= 8);
  CHECK(worst_ulps(z, log(t), [](C x) { return std::log(x); }) <= 8);
  CHECK(worst_ulps(z, sqrt(t), [](C x) { return std::sqrt(x); }) <= 6);
  CHECK(worst_ulps(z, rsqrt(t), [](C x) { return 1.0 / std::sqrt(x); }) <= 10);
  CHECK(worst_ulps(z, sin(t), [](C x) { return std::sin(x); }) <= 10);
  CHECK(worst_ulps(z, cos(t), [](C x) { return std::cos(x); }) <= 10);
  CHECK(worst_ulps(z, tan(t), [](C x) { return std::tan(x); }) <= 16);
  CHECK(worst_ulps(z, sinh(t), [](C x) { return std::sinh(x); }) <= 10);
  CHECK(worst_ulps(z, cosh(t), [](C x) { return std::cosh(x); }) <= 10);
  CHECK(worst_ulps(z, tanh(t), [](C x) { return std::tanh(x); }) <= 16);
  CHECK(worst_ulps(z, pow(t, 2), [](C x) { return x * x; }) <= 4);
  CHECK(worst_ulps(z, pow(t, -3), [](C x) { return 1.0 / (x * x * x); }) <= 12);
  CHECK(worst_ulps(z, pow(t, 0), [](C) { return C(1, 0); }) == 0);
  CHECK(worst_ulps(z, pow(t, 0.5), [](C x) { return std::sqrt(x); }) <= 20);
  CHECK(worst_ulps(z, pow(t, C(0.25, -0.5)), [](C x) { return std::exp(C(0.25, -0.5) * std::log(x)); }) <=
        30);
  CHECK(values(pow(Tensor::from({C(0, 0), C(0, 0), C(2, 1)}), Tensor::from({C(0, 0), C(1.5, 2), C(0, 0)}))) ==
        Cs{1, 0, 1});
  CHECK(std::isnan(pow(Tensor(C(0, 0)), C(-1, 1)).item<C>().real()));
  const Tensor narrow = t.astype(DType::kComplex64);
  for (const auto& f : {exp, log, sqrt, sin, tanh}) {
    CHECK(f(narrow).dtype() == DType::kComplex64);
    const Tensor exact = f(narrow.astype(DType::kComplex128));
    CHECK(f(narrow).to_vector<Cf>() == exact.astype(DType::kComplex64).to_vector<Cf>());
  }
}

TEST_CASE("complex: branch cuts and zeros with a sign") {
  const Cs z{{-4, 0.0},    {-4, -0.0}, {4, 0.0},  {4, -0.0}, {0.0, 0.0},   {0.0, -0.0},  {-0.0, 0.0},
             {-0.0, -0.0}, {0.0, 2},   {0.0, -2}, {-0.0, 2}, {-2, 1e-300}, {-2, -1e-300}};
  const Tensor t = Tensor::from(z);
  const Cs root = values(sqrt(t)), logarithm = values(log(t)), e = values(exp(t));
  const Doubles phase = doubles(angle(t));
  for (std::size_t k = 0; k < z.size(); ++k) {
    CAPTURE(z[k]);
    const C r = std::sqrt(z[k]), l = std::log(z[k]);
    CHECK(ulps(root[k], r) <= 4);
    CHECK(std::signbit(root[k].real()) == std::signbit(r.real()));
    CHECK(std::signbit(root[k].imag()) == std::signbit(r.imag()));
    if (z[k] != 0.0) CHECK(ulps(logarithm[k], l) <= 4);
    if (z[k] == 0.0) CHECK(logarithm[k].real() == -kInf);
    CHECK(std::abs(logarithm[k].imag() - l.imag()) <= 1e-15);
    CHECK(std::signbit(logarithm[k].imag()) == std::signbit(l.imag()));
    CHECK(std::abs(phase[k] - std::arg(z[k])) <= 1e-15);
    CHECK(std::signbit(e[k].imag()) == std::signbit(std::exp(z[k]).imag()));
  }
  // Of a real number that is negative: from above.
  CHECK(ulps(sqrt(Tensor::from({-4.0}).astype(DType::kComplex128)).item<C>(), C(0, 2)) <= 1);
  CHECK(ulps(log(Tensor::from({-1.0}).astype(DType::kComplex128)).item<C>(), C(0, M_PI)) <= 1);
}

TEST_CASE("complex: far from 1, and what is not finite") {
  const auto one = [](const auto& f, C z) { return values(f(Tensor::from({z})))[0]; };
  const auto f_exp = [](const Tensor& x) { return exp(x); };
  const auto f_sqrt = [](const Tensor& x) { return sqrt(x); };
  const auto f_log = [](const Tensor& x) { return log(x); };
  const auto f_tanh = [](const Tensor& x) { return tanh(x); };
  const auto f_sin = [](const Tensor& x) { return sin(x); };
  // Two roots and a wave, of 4 ulp each on a device.
  CHECK(ulps(one(f_exp, {710, 0.8}), std::exp(C(710, 0.8))) <= 14);
  CHECK(one(f_exp, {1000, 0.0}) == C(kInf, 0));
  CHECK(one(f_exp, {-1000, 3}) == C(-0.0, 0));
  CHECK(ulps(one(f_sqrt, {1e308, 1e308}), std::sqrt(C(1e308, 1e308))) <= 4);
  CHECK(ulps(one(f_sqrt, {1e-310, -1e-310}), std::sqrt(C(1e-310, -1e-310))) <= 4);
  CHECK(one(f_sqrt, {-3, kInf}) == C(kInf, kInf));
  CHECK(one(f_sqrt, {-3, -kInf}) == C(kInf, -kInf));
  CHECK(one(f_sqrt, {-kInf, -1}) == C(0, -kInf));
  CHECK(ulps(one(f_log, {1.5e308, 1.5e308}), std::log(C(1.5e308, 1.5e308))) <= 4);
  CHECK(ulps(one(f_log, {1e-310, 1e-310}), std::log(C(1e-310, 1e-310))) <= 4);
  CHECK(ulps(one(f_log, {1, 1e-9}), std::log(C(1, 1e-9))) <= 4);
  CHECK(ulps(one(f_log, {1 + 1e-9, 1e-12}), std::log(C(1 + 1e-9, 1e-12))) <= 4);
  CHECK(ulps(one(f_tanh, {400, 1}), std::tanh(C(400, 1))) <= 4);
  CHECK(ulps(one(f_tanh, {-30, 1}), std::tanh(C(-30, 1))) <= 4);
  CHECK(one(f_sin, {0, kInf}) == C(0, kInf));
  CHECK(std::isnan(one(f_exp, {1, kInf}).real()));
  CHECK(std::isnan(one(f_log, {kNan, 1}).real()));
}

TEST_CASE("complex: movement, reductions and products act on the parts as they must") {
  Cs a;
  for (int k = 0; k < 12; ++k) a.emplace_back(0.5 * k - 2, 1.0 / (k + 1));
  const Tensor z = Tensor::from(a, {3, 4}), x = real(z), y = imag(z);
  const auto by_parts = [&](const auto& f) {
    CHECK(values(f(z)) == values(complex(f(x), f(y))));
    CHECK(values(f(z * 1.5 - 2.0 * z)) == values(complex(f(x * 1.5 - 2.0 * x), f(y * 1.5 - 2.0 * y))));
    CHECK(f(z).shape() == f(x).shape());
  };
  by_parts([](const Tensor& t) { return t.reshape({2, 6}); });
  by_parts([](const Tensor& t) { return t.transpose(); });
  by_parts([](const Tensor& t) { return t.slice(1, 3, kEnd, -2); });
  by_parts([](const Tensor& t) { return t.flip(0).roll(1, 1); });
  by_parts([](const Tensor& t) { return t.pad({{1, 0}, {0, 2}}); });
  by_parts([](const Tensor& t) { return t[1].expand({2, 4}); });
  by_parts([](const Tensor& t) { return cat({t, t.slice(0, 1, 2)}, 0); });
  by_parts([](const Tensor& t) { return stack({t, t}, 1); });
  by_parts([](const Tensor& t) { return t.sum(0); });
  by_parts([](const Tensor& t) { return t.mean({}, true); });
  by_parts([](const Tensor& t) { return t.cumsum(1); });
  by_parts([](const Tensor& t) { return gather(t, Tensor::from({2, 0, -1}), 1); });
  by_parts([](const Tensor& t) { return scatter_add(t, Tensor::from({1, 1}), t.slice(0, 0, 2), 0); });
  by_parts([](const Tensor& t) { return set(t, 1, t[0]); });
  by_parts([](const Tensor& t) { return t.slice_set(1, 0, 2, t.slice(1, 2, 4)); });
  CHECK(values(z.pad({{0, 0}, {1, 0}}, C(5, 6)))[0] == C(5, 6));
  CHECK(values(set(z, 0, i1))[3] == i1);
  C product = 1;
  for (const C v : a) product *= v;
  CHECK(ulps(z.prod().item<C>(), product) <= 24);
  CHECK(values(z.prod(0)).size() == 4);
  CHECK(ulps(values(z.prod(0))[1], a[1] * a[5] * a[9]) <= 4);
  CHECK(z.slice(0, 0, 0).prod().item<C>() == C(1, 0));
  CHECK(z.slice(0, 0, 0).sum().item<C>() == C(0, 0));
  double squares = 0;
  for (const C v : a) squares += std::norm(v);
  CHECK(z.norm().item<double>() == doctest::Approx(std::sqrt(squares)).epsilon(1e-15));

  const Tensor w = matmul(z, conj(z).transpose()), v = matmul(x, z.transpose());
  for (std::size_t r = 0; r < 3; ++r)
    for (std::size_t c = 0; c < 3; ++c) {
      C full = 0, mixed = 0;
      for (std::size_t k = 0; k < 4; ++k) {
        full += a[4 * r + k] * std::conj(a[4 * c + k]);
        mixed += a[4 * r + k].real() * a[4 * c + k];
      }
      CHECK(std::abs(values(w)[3 * r + c] - full) <= 1e-14);
      CHECK(std::abs(values(v)[3 * r + c] - mixed) <= 1e-14);
    }
  C inner = 0;
  for (std::size_t k = 0; k < 4; ++k) inner += a[k] * a[4 + k];
  CHECK(ulps(dot(z[0], z[1]).item<C>(), inner) <= 8);
  CHECK(ulps(matmul(z[0], z[1]).item<C>(), inner) <= 8);
}

TEST_CASE("complex: what has no meaning for complex numbers is an error at the call") {
  const Tensor z = Tensor::from({C(1, 2)}), x = Tensor::from({1.0});
  const std::string order = ": complex numbers have no order; compare abs(), real() or imag()";
  CHECK(message([&] { (void)(z < x); }) == error_at("[<] is not defined for complex128" + order));
  CHECK(message([&] { (void)(x >= C(0, 1)); }) == error_at("[>=] is not defined for complex128" + order));
  CHECK(message([&] { z.max(); }) == error_at("[max] is not defined for complex128" + order));
  CHECK(message([&] { maximum(x, z); }) == error_at("[maximum] is not defined for complex128" + order));
  const std::string parts = " is not defined for complex128; use real(), imag() or abs()";
  CHECK(message([&] { z % 2; }) == error_at("[%]" + parts));
  CHECK(message([&] { floor(z); }) == error_at("[floor]" + parts));
  CHECK(message([&] { erf(z); }) == error_at("[erf]" + parts));
  CHECK(message([&] { atan2(z, x); }) == error_at("[atan2]" + parts));
  CHECK(message([&] { fma(x, x, z); }) == error_at("[fma]" + parts));
  CHECK(message([&] { sign(z); }) == error_at("[sign]" + parts));
  CHECK(message([&] { complex(z, x); }) == error_at("[complex]" + parts));
  CHECK(
      message([&] { z.astype(DType::kFloat64); }) ==
      error_at("[astype] complex128 to float64 would drop the imaginary part; write real(z).astype(...), or "
               "abs(z)"));
  CHECK(message([&] { z.item<double>(); }).find("asked for float64") != std::string::npos);
  CHECK(message([&] { set(x, 0, C(0, 1)); }).find("the number is complex") != std::string::npos);
  CHECK(message([&] { set(x, 0, z[0]); }).find("use astype") != std::string::npos);
  CHECK(message([&] {
          Tensor t = x;
          t += z;
        }).find("the left side float64") != std::string::npos);
  CHECK(message([&] { gather(x, z); }).find("needs integers") != std::string::npos);
  CHECK(message([&] { where(z, x, x); }).find("needs bool") != std::string::npos);
  CHECK(message([&] { Tensor::arange(C(0, 1)); }).find("is complex") != std::string::npos);
  CHECK(message([&] { Tensor::rand({2}, 1, DType::kComplex64); }) != "nothing was thrown");
  const System oscillator([](const Tensor& q, const Tensor& p) { return 0.5 * (q * q + p * p).sum(); });
  CHECK(message([&] {
          oscillator.evolve({z, z}, {.dt = 0.1, .steps = 2});
        }).find("float64") != std::string::npos);
  CHECK(message([&] {
          oscillator.evolve({x, x}, {.dt = C(0.1, 0), .steps = 2});
        }).find("dt is complex") != std::string::npos);
  const System complex_energy(
      [](const Tensor& q, const Tensor& p) { return ((q + i1 * p) * (q - i1 * p)).sum(); });
  CHECK(message([&] {
          complex_energy.evolve({x, x}, {.dt = 0.1, .steps = 2});
        }).find("H must return float64; it returns complex128[]") != std::string::npos);
}

}  // namespace tinyphys::testing
