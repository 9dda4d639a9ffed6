// Prime fields as number types of the evaluator: the modulus is chosen at run time, at random.
//
// With one fixed p, two coefficients that are equal mod p are taken for equal numbers: 2^61 = 1 in the field of
// 2^61 - 1. A prime drawn among 1.6e17 divides a given non-zero coefficient with a probability that can be stated.
#pragma once

#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>

#include "uop/evaluate.hpp"

namespace tinyphys {

// The field of p elements, p < 2^63 an odd prime (any odd p makes a ring). Elements are kept in Montgomery form, x * 2^64 mod p.
class PrimeField {
 public:
  explicit PrimeField(std::uint64_t p);

  // The field that Fp computes in on this thread.
  static const PrimeField& current() { return *current_; }

  std::uint64_t prime() const { return p_; }
  std::uint64_t one() const { return one_; }
  std::uint64_t from_residue(std::uint64_t x) const { return multiply(x, r2_); }  // x < 2^63
  std::uint64_t to_residue(std::uint64_t x) const { return reduce(x); }
  std::uint64_t add(std::uint64_t a, std::uint64_t b) const {
    const std::uint64_t s = a + b;  // < 2^64
    return s >= p_ ? s - p_ : s;
  }
  std::uint64_t subtract(std::uint64_t a, std::uint64_t b) const { return a >= b ? a - b : a + (p_ - b); }
  std::uint64_t multiply(std::uint64_t a, std::uint64_t b) const { return reduce(static_cast<Wide>(a) * b); }

 private:
  friend class FieldScope;
  __extension__ using Wide = unsigned __int128;
  // t / 2^64 mod p, t < p 2^64.
  std::uint64_t reduce(Wide t) const {
    const std::uint64_t m = static_cast<std::uint64_t>(t) * minus_inverse_;
    const auto r = static_cast<std::uint64_t>((t + static_cast<Wide>(m) * p_) >> 64);
    return r >= p_ ? r - p_ : r;
  }

  static inline thread_local constinit const PrimeField* current_ = nullptr;
  std::uint64_t p_, minus_inverse_ /* -1 / p mod 2^64 */, r2_ /* 2^128 mod p */, one_;
};

// Fp computes in `field` while the scope lives.
class FieldScope {
 public:
  explicit FieldScope(const PrimeField& field) : before_(PrimeField::current_) {
    PrimeField::current_ = &field;
  }
  ~FieldScope() { PrimeField::current_ = before_; }
  FieldScope(const FieldScope&) = delete;
  FieldScope& operator=(const FieldScope&) = delete;

 private:
  const PrimeField* before_;
};

// Deterministic Miller-Rabin; n < 2^63.
bool is_prime(std::uint64_t n);

// Primes are drawn uniformly from 2^61 < p < 2^63; there are at least this many (Dusart's bounds of pi(x)).
inline constexpr double kPrimesDrawnFrom = 1.6e17;
inline constexpr double kPrimeBits = 61;  // log2 of the smallest
std::uint64_t random_prime(std::mt19937_64& random);

// The generator that proofs draw from, one a thread, seeded with entropy; a test may seed it.
std::mt19937_64& proof_random();

// An element of PrimeField::current().
struct Fp {
  std::uint64_t v = 0;

  static Fp from_integer(std::int64_t x);
  static Fp one() { return {PrimeField::current().one()}; }
  friend Fp operator+(Fp a, Fp b) { return {PrimeField::current().add(a.v, b.v)}; }
  friend Fp operator-(Fp a, Fp b) { return {PrimeField::current().subtract(a.v, b.v)}; }
  friend Fp operator-(Fp a) { return {PrimeField::current().subtract(0, a.v)}; }
  friend Fp operator*(Fp a, Fp b) { return {PrimeField::current().multiply(a.v, b.v)}; }
  friend bool operator==(Fp a, Fp b) = default;
  static Fp power(Fp x, std::uint64_t k) {
    Fp r = one();
    for (; k; k >>= 1, x = x * x)
      if (k & 1) r = r * x;
    return r;
  }
};

// Thrown inside an exact evaluation by what a field cannot do; the identity test turns it into its reason.
struct NotInField : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <> struct Number<Fp> {
  static Fp from_double(double v);  // m * 2^e with integers m and e: exact, 2 has an inverse
  static Fp from_int(std::int64_t v) { return Fp::from_integer(v); }
  static double to_double(const Fp&) { throw NotInField("a field element has no size"); }
  static Fp round_to(DType, const Fp& v) { return v; }
  static Fp divide(Fp a, Fp b) {
    if (b.v == 0) throw NotInField("division by zero");
    return a * Fp::power(b, PrimeField::current().prime() - 2);
  }
  static Fp unary(const Node* n, const Fp& x) {
    if (n->op == Op::NEG) return -x;
    if (n->op == Op::POWI) {
      const std::int64_t k = n->arg(0);
      const Fp r = Fp::power(x, static_cast<std::uint64_t>(k < 0 ? -k : k));
      return k < 0 ? divide(Fp::one(), r) : r;
    }
    throw NotInField(std::string(name(n->op)) + " is not a field operation");
  }
  static dft::Complex<Fp> turn(std::int64_t, std::int64_t) {
    throw NotInField("the cosines of a transform are in no prime field");
  }
  static Fp binary(const Node* n, const Fp& a, const Fp& b) {
    switch (n->op) {
      case Op::ADD: return a + b;
      case Op::SUB: return a - b;
      case Op::MUL: return a * b;
      case Op::DIV: return divide(a, b);
      default: throw NotInField(std::string(name(n->op)) + " is not a field operation");
    }
  }
  static bool compare(const Node*, const Fp&, const Fp&) { throw NotInField("a field has no order"); }
  static Fp fma(const Fp& a, const Fp& b, const Fp& c) { return a * b + c; }
  static void add_to(Fp& acc, const Fp& x) { acc = acc + x; }
  static void add_product_to(Fp& acc, const Fp& a, const Fp& b) { acc = acc + a * b; }
};

}  // namespace tinyphys
