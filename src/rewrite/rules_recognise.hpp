// Algebra of the real numbers that is not exact in floating point. Only for the private copy of a graph in which a
// recogniser looks for structure; never for what runs.
#pragma once

#include "rewrite/nonnegative.hpp"
#include "rewrite/pattern.hpp"

namespace tinyphys {

template <class A> constexpr bool rules_recognise(A& r) {
  using namespace pattern;
  const auto nonnegative = when("x >= 0", provably_nonnegative, x);
  const auto even = when("k even", [](const Node* n) { return n->arg(0) != 0 && n->arg(0) % 2 == 0; });

  return
      // an exponent that is a tensor: pow(x, 1) = x
      r(op<Op::POW>(x, 1), x) ||
      // pow(x, 2) = x x
      r(op<Op::POW>(x, 2), x * x) ||
      // pow(x, 0.5) = sqrt(x)
      r(op<Op::POW>(x, 0.5), sqrt(x), nonnegative) ||
      // sqrt(x) sqrt(x) = x
      r(sqrt(x) * sqrt(x), x, nonnegative) ||
      // (y sqrt(x)) sqrt(x) = y x
      r((y * sqrt(x)) * sqrt(x), y * x, nonnegative) ||
      // sqrt(x)^k = x^(k/2), k even
      r(powi(sqrt(x)),
        compute(
            "x^(k/2)", [](Node* n, Node* s) { return make(Op::POWI, {UOp::share(s)}, {n->arg(0) / 2}); }, x),
        when(
            "k even, x >= 0",
            [](const Node* s, const Node* n) {
              return n->arg(0) != 0 && n->arg(0) % 2 == 0 && provably_nonnegative(s);
            },
            x, root)) ||
      // sqrt(x x) = |x|
      r(sqrt(x * x), abs(x)) ||
      // |x|^k = x^k, k even
      r(powi(abs(x)),
        compute(
            "x^k", [](Node* n, Node* s) { return make(Op::POWI, {UOp::share(s)}, {n->arg(0)}); }, x),
        even) ||
      // |x| = x
      r(abs(x), x, nonnegative) ||
      // (x^k)^l = x^(k l)
      r(powi(named(y, powi(x))), compute(
                                     "x^(k l)",
                                     [](Node* n, Node* inner) {
                                       const std::int64_t k = n->arg(0) * inner->arg(0);
                                       constexpr std::int64_t kMaxExponent = 64;
                                       if (k < -kMaxExponent || k > kMaxExponent) return UOp();
                                       return make(Op::POWI, {UOp::share(inner->src(0))}, {k});
                                     },
                                     y));
}

}  // namespace tinyphys
