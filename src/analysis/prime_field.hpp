// The prime field of 2^61 - 1 elements, as a number type of the evaluator.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "uop/evaluate.hpp"

namespace tinyphys {

struct Fp {
  static constexpr std::uint64_t kPrime = (std::uint64_t{1} << 61) - 1;
  std::uint64_t v = 0;

  static constexpr std::uint64_t reduce(std::uint64_t x) {
    x = (x & kPrime) + (x >> 61);
    return x >= kPrime ? x - kPrime : x;
  }
  static Fp from_integer(std::int64_t x) {
    const Fp r{reduce(x < 0 ? ~static_cast<std::uint64_t>(x) + 1 : static_cast<std::uint64_t>(x))};
    return x < 0 ? -r : r;
  }
  friend Fp operator+(Fp a, Fp b) { return {reduce(a.v + b.v)}; }
  friend Fp operator-(Fp a, Fp b) { return {reduce(a.v + kPrime - b.v)}; }
  friend Fp operator-(Fp a) { return {a.v == 0 ? 0 : kPrime - a.v}; }
  friend Fp operator*(Fp a, Fp b) {
    __extension__ using Wide = unsigned __int128;
    const Wide w = static_cast<Wide>(a.v) * b.v;
    return {reduce((static_cast<std::uint64_t>(w) & kPrime) + static_cast<std::uint64_t>(w >> 61))};
  }
  friend bool operator==(Fp a, Fp b) = default;
  static Fp power(Fp x, std::uint64_t k) {
    Fp r{1};
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
  // A double is m * 2^e with an integer m, and 2^61 = 1 in this field.
  static Fp from_double(double v) {
    if (!std::isfinite(v)) throw NotInField("a constant is not finite");
    int e = 0;
    const auto m = static_cast<std::int64_t>(std::ldexp(std::frexp(v, &e), 53));
    e = ((e - 53) % 61 + 61) % 61;
    return Fp::from_integer(m) * Fp{std::uint64_t{1} << e};
  }
  static Fp from_int(std::int64_t v) { return Fp::from_integer(v); }
  static double to_double(const Fp&) { throw NotInField("a field element has no size"); }
  static Fp round_to(DType, const Fp& v) { return v; }
  static Fp divide(Fp a, Fp b) {
    if (b.v == 0) throw NotInField("division by zero");
    return a * Fp::power(b, Fp::kPrime - 2);
  }
  static Fp unary(const Node* n, const Fp& x) {
    if (n->op == Op::NEG) return -x;
    if (n->op == Op::POWI) {
      const std::int64_t k = n->arg(0);
      const Fp r = Fp::power(x, static_cast<std::uint64_t>(k < 0 ? -k : k));
      return k < 0 ? divide(Fp{1}, r) : r;
    }
    throw NotInField(std::string(name(n->op)) + " is not a field operation");
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
