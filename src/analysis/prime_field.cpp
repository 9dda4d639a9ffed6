#include "analysis/prime_field.hpp"

#include <array>
#include <cmath>

namespace tinyphys {
namespace {

constexpr std::uint64_t kSmallest = std::uint64_t{1} << 61, kEnd = std::uint64_t{1} << 63;
constexpr std::array<std::uint64_t, 12> kSmallPrimes{2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};

std::mt19937_64 from_entropy() {
  std::random_device entropy;
  std::array<std::random_device::result_type, 8> words;
  for (auto& w : words) w = entropy();
  std::seed_seq seed(words.begin(), words.end());
  return std::mt19937_64(seed);
}

}  // namespace

PrimeField::PrimeField(std::uint64_t p) : p_(p) {
  std::uint64_t inverse = p;  // right to 3 bits; each step doubles them
  for (int i = 0; i < 5; ++i) inverse *= 2 - p * inverse;
  minus_inverse_ = ~inverse + 1;
  one_ = static_cast<std::uint64_t>((static_cast<Wide>(1) << 64) % p);
  r2_ = static_cast<std::uint64_t>(static_cast<Wide>(one_) * one_ % p);
}

bool is_prime(std::uint64_t n) {
  if (n < 2) return false;
  for (std::uint64_t s : kSmallPrimes)
    if (n % s == 0) return n == s;
  const PrimeField field(n);  // a ring at least
  const std::uint64_t one = field.one(), minus_one = field.subtract(0, one);
  int twos = 0;
  std::uint64_t odd = n - 1;
  for (; odd % 2 == 0; odd /= 2) ++twos;
  // These bases decide for every n below 3.3e24 (Sorenson and Webster, 2015).
  for (std::uint64_t base : kSmallPrimes) {
    std::uint64_t x = one, b = field.from_residue(base);
    for (std::uint64_t k = odd; k; k >>= 1, b = field.multiply(b, b))
      if (k & 1) x = field.multiply(x, b);
    if (x == one || x == minus_one) continue;
    bool composite = true;
    for (int i = 1; i < twos && composite; ++i) {
      x = field.multiply(x, x);
      composite = x != minus_one;
    }
    if (composite) return false;
  }
  return true;
}

std::uint64_t random_prime(std::mt19937_64& random) {
  std::uniform_int_distribution<std::uint64_t> pick(kSmallest + 1, kEnd - 1);
  for (;;)
    if (const std::uint64_t n = pick(random) | 1; is_prime(n)) return n;
}

std::mt19937_64& proof_random() {
  static thread_local std::mt19937_64 random = from_entropy();
  return random;
}

Fp Fp::from_integer(std::int64_t x) {
  const PrimeField& field = PrimeField::current();
  const std::uint64_t size = x < 0 ? ~static_cast<std::uint64_t>(x) + 1 : static_cast<std::uint64_t>(x);
  const Fp r{field.from_residue(size % field.prime())};
  return x < 0 ? -r : r;
}

Fp Number<Fp>::from_double(double v) {
  if (!std::isfinite(v)) throw NotInField("a constant is not finite");
  int e = 0;
  const auto m = static_cast<std::int64_t>(std::ldexp(std::frexp(v, &e), 53));
  e -= 53;
  const PrimeField& field = PrimeField::current();
  const std::uint64_t half = (field.prime() + 1) / 2;
  const Fp base{field.from_residue(e < 0 ? half : 2)};
  return Fp::from_integer(m) * Fp::power(base, static_cast<std::uint64_t>(e < 0 ? -e : e));
}

}  // namespace tinyphys
