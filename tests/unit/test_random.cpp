// Random numbers: Philox4x32-10 against its authors' vectors, the distributions, and what a seed promises.
#include <algorithm>
#include <numbers>
#include <set>

#include "support/philox.hpp"
#include "test_tensor_helpers.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/transforms.hpp"
#include "uop/build.hpp"

namespace tinyphys::testing {
namespace {

// The largest distance of the empirical distribution function from a closed one, times sqrt(n): above 1.95 in one of
// 1000 samples (Kolmogorov).
template <class F> double kolmogorov_smirnov(Doubles x, F&& distribution) {
  std::sort(x.begin(), x.end());
  const auto n = static_cast<double>(x.size());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double f = distribution(x[i]), k = static_cast<double>(i);
    worst = std::max({worst, f - k / n, (k + 1) / n - f});
  }
  return worst * std::sqrt(n);
}
constexpr double kOneInAThousand = 1.95;
double uniform_distribution(double x) { return x; }
double normal_distribution(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

double moment(const Doubles& x, int k) {
  double s = 0;
  for (double v : x) s += std::pow(v, k);
  return s / static_cast<double>(x.size());
}
// Of independent samples about +-1 / sqrt(n).
double correlation(const Doubles& a, const Doubles& b) {
  const double ma = moment(a, 1), mb = moment(b, 1);
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) * (a[i] - ma);
    bb += (b[i] - mb) * (b[i] - mb);
  }
  return ab / std::sqrt(aa * bb);
}
// A message without its "(this file:line)", which must be there.
std::string without_line(const std::string& text) {
  const std::size_t end = text.find(" (test_random.cpp:");
  return end == std::string::npos ? "no line in: " + text : text.substr(0, end);
}
bool starts_with(const Doubles& longer, const Doubles& shorter) {
  return std::equal(shorter.begin(), shorter.end(), longer.begin());
}

}  // namespace

TEST_CASE("random: the known answers of Philox4x32-10") {
  // kat_vectors of the Random123 library, 1.09.
  using philox::block;
  using philox::Counter;
  CHECK(block({0, 0, 0, 0}, {0, 0}) == Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t kOnes = 0xffffffff;
  CHECK(block({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}) ==
        Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(block({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  CHECK(philox::draw(philox::number({0, 0, 63}), 0, 0) == 0x6627e8d5e169c58d >> 1);
  CHECK(philox::draw(philox::number({0, 1, 53}), 0, 0) == 0xbc57ac4c9b00dbd8 >> 11);
  // The first element of seed 0.
  CHECK(Tensor::rand({1}, 0).to_vector<double>()[0] == std::ldexp(double(0x6627e8d5e169c58d >> 11), -53));
}

TEST_CASE("random: the op on the device is the function") {
  const Ints keys{0, 1, -1, 42, std::int64_t{1} << 32, INT64_MIN, INT64_MAX, 0x299f31d0a4093822, 7},
      counters{0, -1, 5, INT64_MAX, INT64_MIN, std::int64_t{1} << 40, 3, 0x05a308d3243f6a88, 8};
  const UOp key = uop(Tensor::from(keys)), counter = uop(Tensor::from(counters));
  for (const philox::Draw d : {philox::Draw{0, 0, 63}, philox::Draw{2, 1, 53}, philox::Draw{1, 0, 1}}) {
    const std::int64_t number = philox::number(d);
    const Ints got = ints(tensor(make(Op::PHILOX, {key, counter}, {number})));
    for (std::size_t i = 0; i < keys.size(); ++i) {
      CAPTURE(i);
      CHECK(got[i] == philox::draw(number, keys[i], counters[i]));
    }
  }
}

TEST_CASE("random: rand is uniform in [0, 1)") {
  constexpr std::int64_t n = 100'000;
  for (const std::int64_t seed : {0, 1, -5, 123456789}) {
    CAPTURE(seed);
    const Doubles x = doubles(Tensor::rand({n}, seed));
    CHECK(*std::min_element(x.begin(), x.end()) >= 0);
    CHECK(*std::max_element(x.begin(), x.end()) < 1);
    CHECK(std::fabs(moment(x, 1) - 0.5) < 4 * std::sqrt(1.0 / 12 / n));  // four standard errors
    CHECK(std::fabs(moment(x, 2) - 1.0 / 3) < 4 * std::sqrt(4.0 / 45 / n));
    CHECK(kolmogorov_smirnov(x, uniform_distribution) < kOneInAThousand);
    CHECK(std::fabs(correlation({x.begin(), x.end() - 1}, {x.begin() + 1, x.end()})) < 4 / std::sqrt(n));
  }
  const std::vector<float> narrow = Tensor::rand({n}, 3, DType::kFloat32).to_vector<float>();
  CHECK(*std::max_element(narrow.begin(), narrow.end()) < 1);
  CHECK(kolmogorov_smirnov({narrow.begin(), narrow.end()}, uniform_distribution) < kOneInAThousand);
  CHECK(Tensor::rand({2}, 3).dtype() == DType::kFloat64);
}

TEST_CASE("random: randn is standard normal") {
  constexpr std::int64_t n = 100'000;
  for (const std::int64_t seed : {0, 1, -5, 123456789}) {
    CAPTURE(seed);
    const Doubles x = doubles(Tensor::randn({n}, seed));
    CHECK(std::fabs(moment(x, 1)) < 4 * std::sqrt(1.0 / n));
    CHECK(std::fabs(moment(x, 2) - 1) < 4 * std::sqrt(2.0 / n));
    CHECK(std::fabs(moment(x, 3)) < 4 * std::sqrt(15.0 / n));
    CHECK(std::fabs(moment(x, 4) - 3) < 4 * std::sqrt(96.0 / n));
    CHECK(kolmogorov_smirnov(x, normal_distribution) < kOneInAThousand);
    CHECK(std::fabs(correlation({x.begin(), x.end() - 1}, {x.begin() + 1, x.end()})) < 4 / std::sqrt(n));
  }
  const Doubles wide = doubles(Tensor::randn({100}, 9));
  const std::vector<float> narrow = Tensor::randn({100}, 9, DType::kFloat32).to_vector<float>();
  for (std::size_t i = 0; i < wide.size(); ++i) CHECK(narrow[i] == static_cast<float>(wide[i]));
}

TEST_CASE("random: randn is Box and Muller's transform of the draws") {
  const Doubles x = doubles(Tensor::randn({20'000}, 4));
  for (std::size_t k = 0; k < x.size(); ++k) {
    const auto draw = [&](std::int64_t half) {
      return static_cast<double>(
          philox::draw(philox::number({1, half, 53}), 4, static_cast<std::int64_t>(k)));
    };
    const double u = std::ldexp(draw(0) + 1, -53), v = std::ldexp(draw(1), -53);
    const double r = std::sqrt(-2 * std::log(u));
    // The library's cosine takes an angle that is rounded: 2^-53 of up to 2 pi.
    CHECK(std::fabs(x[k] - r * std::cos(2 * std::numbers::pi * v)) < 2e-15 * (r + 1));
  }
}

TEST_CASE("random: randint") {
  const Ints x = ints(Tensor::randint(-3, 4, {70'000}, 11));
  std::vector<double> counts(7);
  for (const std::int64_t v : x) {
    REQUIRE((v >= -3 && v < 4));
    ++counts[static_cast<std::size_t>(v + 3)];
  }
  double chi_square = 0;
  for (double c : counts) chi_square += (c - 10'000) * (c - 10'000) / 10'000;
  CHECK(chi_square < 22.5);  // 6 degrees of freedom: above it in one of 1000 samples
  CHECK(ints(Tensor::randint(5, 6, {3}, 0)) == Ints{5, 5, 5});
  CHECK(Tensor::randint(0, 10, {3}, 0, DType::kInt32).dtype() == DType::kInt32);
  CHECK(Tensor::randint(INT32_MIN, std::int64_t{INT32_MAX} + 1, {3}, 0, DType::kInt32).size() == 3);
  const Ints all = ints(Tensor::randint(INT64_MIN, -1, {1000}, 1));
  CHECK(std::set<std::int64_t>(all.begin(), all.end()).size() == 1000);
  CHECK(*std::min_element(all.begin(), all.end()) < INT64_MIN / 100 * 99);
}

TEST_CASE("random: an element is a function of the seed and of its number") {
  const Doubles x = doubles(Tensor::rand({1000}, 17)), g = doubles(Tensor::randn({1000}, 17));
  CHECK(doubles(Tensor::rand({1000}, 17)) == x);
  CHECK(doubles(Tensor::rand({10, 100}, 17)) == x);
  for (const std::int64_t n : {1, 7, 64, 999}) {
    CHECK(starts_with(x, doubles(Tensor::rand({n}, 17))));
    CHECK(starts_with(g, doubles(Tensor::randn({n}, 17))));
  }
  CHECK(Tensor::rand({}, 17).item<double>() == x[0]);
  CHECK(Tensor::rand({1000}, 17).slice(0, 500, 510).to_vector<double>() ==
        Doubles(x.begin() + 500, x.begin() + 510));
  // The seed as a tensor, of any integer dtype, known now or later.
  CHECK(doubles(Tensor::rand({1000}, Tensor::from({16, 17})[1])) == x);
  CHECK(doubles(Tensor::rand({1000}, Tensor(17).astype(DType::kInt32))) == x);
}

TEST_CASE("random: seeds and functions are independent") {
  constexpr std::int64_t n = 20'000;
  const auto independent = [](const Doubles& a, const Doubles& b) {
    return std::fabs(correlation(a, b)) < 4 / std::sqrt(n);
  };
  const Doubles x = doubles(Tensor::rand({n}, 1));
  for (const std::int64_t seed : {0, 2, -1, 3, 1000}) {
    CAPTURE(seed);
    CHECK(independent(x, doubles(Tensor::rand({n}, seed))));
  }
  CHECK(independent(x, doubles(Tensor::rand({n}, (std::int64_t{1} << 32) + 1))));
  CHECK(independent(x, doubles(Tensor::randn({n}, 1))));
  CHECK(independent(x, doubles(Tensor::randint(0, 1000, {n}, 1).astype(DType::kFloat64))));
}

TEST_CASE("random: noise in a scan, batches of seeds, gradients around it") {
  // A random walk: each step has its own seed.
  const Tensor end =
      scan([](Index i, const Tensor& x) { return x + Tensor::randn({3}, 100 + i); }, Tensor::zeros({3}), 50);
  Tensor sum = Tensor::zeros({3});
  for (int i = 0; i < 50; ++i) sum += Tensor::randn({3}, 100 + i);
  CHECK(doubles(end) == doubles(sum));
  const Tensor rows = vmap([](const Tensor& seed) { return Tensor::rand({4}, seed); })(Tensor::from({5, 6}));
  CHECK(doubles(rows[0]) == doubles(Tensor::rand({4}, 5)));
  CHECK(doubles(rows[1]) == doubles(Tensor::rand({4}, 6)));
  const Tensor slope = grad([](const Tensor& s) { return (s * Tensor::randn({4}, 3)).sum(); })(Tensor(2.0));
  CHECK(slope.item<double>() == doctest::Approx(Tensor::randn({4}, 3).sum().item<double>()));
}

TEST_CASE("random: shapes without elements") {
  CHECK(Tensor::rand({0}, 1).to_vector<double>().empty());
  CHECK(Tensor::randn({3, 0, 2}, 1).shape() == Shape{3, 0, 2});
  CHECK(Tensor::randn({3, 0, 2}, 1).to_vector<double>().empty());
  CHECK(Tensor::randint(0, 2, {0}, 1).to_vector<std::int64_t>().empty());
}

TEST_CASE("random: errors") {
  const auto said = [](auto&& f) { return without_line(message(f)); };
  const Tensor two = Tensor::from({1, 2}), real = Tensor(1.0);
  CHECK(said([&] { Tensor::rand({2}, 1.5); }) == "[rand] the number 1.5 does not fit int64");
  CHECK(said([&] { Tensor::randn({-2}, 1); }).find("[randn]") == 0);
  CHECK(said([&] { Tensor::randn({2}, two); }) == "[randn] the seed is int64[2], needs an integer scalar");
  CHECK(said([&] { Tensor::rand({2}, real); }) == "[rand] the seed is float64[], needs an integer scalar");
  CHECK(said([&] { Tensor::rand({2}, 1, DType::kInt64); }) == "[rand] needs float64 or float32, got int64");
  CHECK(said([&] { Tensor::randint(4, 4, {2}, 1); }) == "[randint] no integer is in [4, 4)");
  CHECK(said([&] { Tensor::randint(0, 1, {2}, 1, DType::kFloat64); }) ==
        "[randint] needs int64 or int32, got float64");
  CHECK(said([&] { Tensor::randint(0, INT64_MAX, {2}, 1, DType::kInt32); }) ==
        "[randint] int32 does not hold all of [0, 9223372036854775807)");
  CHECK(said([&] { Tensor::randint(-2, INT64_MAX, {2}, 1); }) ==
        "[randint] more than 2^63 - 1 integers are in [-2, 9223372036854775807)");
}

}  // namespace tinyphys::testing
