// Local algebra that keeps every bit: signed zeros, infinities, NaN (any NaN for any NaN), wrapping integers.
// What only holds for real numbers is not here: x - x -> 0 (NaN, inf), x * 0 -> 0, x + 0 -> x (-0 + 0 = +0),
// 0 - x -> -x (for x = 0). Every rule lowers measure() (measure.hpp).
//
// Canonical forms that later stages may count on, after simplify():
// - x^0, x^1, x^2, x^-1 are 1, x, x*x, 1/x: POWI(x, 2) and MUL(x, x) have the same value by definition, and as
//   MUL one pattern finds a square however it was written, and a kernel needs nothing special for it;
// - a number broadcast to a shape is EXPAND(RESHAPE(CONST)); work on expanded values stands below the EXPAND;
// - no division by 2, no negation under + - abs or on both sides of * /.
#pragma once

#include "rewrite/movement.hpp"
#include "rewrite/pattern.hpp"

namespace tinyphys {

namespace rule_detail {

// Every value of `from` is a value of `to`.
constexpr bool holds_all(DType to, DType from) {
  if (from == to || from == DType::kBool) return true;
  if (from == DType::kInt32) return to == DType::kInt64 || to == DType::kFloat64;
  return from == DType::kFloat32 && to == DType::kFloat64;
}

inline UOp with_source(const Node* n, Node* s) { return with_sources(n, std::span<Node* const>(&s, 1)); }

}  // namespace rule_detail

template <class A> constexpr bool rules_algebra(A& r) {
  using namespace pattern;
  using rule_detail::holds_all, rule_detail::with_source;
  const auto floats = [](auto name) {
    return when(
        "float", [](const Node* n) { return is_float(n->dtype); }, name);
  };
  const auto integers = [](auto name) {
    return when(
        "integer", [](const Node* n) { return is_integer(n->dtype); }, name);
  };
  const auto booleans = [](auto name) {
    return when(
        "bool", [](const Node* n) { return n->dtype == DType::kBool; }, name);
  };
  const auto even_small_power = when("|k| in 2, 4", [](const Node* n) {
    return is_float(n->dtype) && (n->arg(0) == -2 || n->arg(0) == 4 || n->arg(0) == -4);
  });
  const auto not_floats = [](auto name) {
    return when(
        "not float", [](const Node* n) { return !is_float(n->dtype); }, name);
  };

  return
      // --- numbers ---
      // the value of ops over numbers, with the rounding that they have at run time
      r(AnyElementwise{}, compute("its value", [](Node* n) { return fold_constants(n); }),
        when("of constants",
             [](const Node* n) { return n->n_src > 0 && uniform_const(n->src(0)) != nullptr; })) ||

      // --- neutral elements ---
      // x - 0 = x, for -0 too: -0 - +0 = -0
      r(x - 0, x) ||
      // x * 1 = x
      r(x * 1, x) ||
      // x / 1 = x
      r(x / 1, x) ||
      // x * -1 = -x
      r(x * -1, -x) ||
      // x / -1 = -x
      r(x / -1, -x) ||
      // x / 2 = x * 0.5: both round the same real number
      r(x / 2, x * 0.5, floats(x)) ||
      // fma(x, 1, z) = x + z: one rounding on both sides
      r(fma(x, 1, z), x + z) ||
      // fma(x, -1, z) = z - x
      r(fma(x, -1, z), z - x) ||

      // --- negation: exact, it only flips the sign ---
      // -(-x) = x
      r(-(-x), x) ||
      // x + (-y) = x - y
      r(x + (-y), x - y) ||
      // x - (-y) = x + y
      r(x - (-y), x + y) ||
      // (-x) (-y) = x y
      r((-x) * (-y), x * y) ||
      // (-x) / (-y) = x / y; not for integers, where -x may wrap
      r((-x) / (-y), x / y, floats(x)) ||
      // fma(-x, -y, z) = fma(x, y, z)
      r(fma(-x, -y, z), fma(x, y, z)) ||
      // (-x) k = x (-k)
      r((-x) * c0, x * fold(-c0)) ||
      // (-x) / k = x / (-k)
      r((-x) / c0, x / fold(-c0), floats(x)) ||
      // |-x| = |x|
      r(abs(-x), abs(x)) ||
      // (-x)^k = x^k, k even
      r(powi(-x),
        compute(
            "x^k", [](Node* n, Node* s) { return with_source(n, s); }, x),
        even_small_power) ||

      // --- absolute value ---
      // ||x|| = |x|
      r(abs(abs(x)), abs(x)) ||
      // |x x| = x x: a rounded square is not negative
      r(abs(x * x), x * x, floats(x)) ||
      // |exp x| = exp x
      r(abs(op<Op::EXP>(x)), op<Op::EXP>(x), floats(x)) ||
      // |x| |x| = x x
      r(abs(x) * abs(x), x * x) ||
      // |x| |y| = |x y|: rounding does not see the sign
      r(abs(x) * abs(y), abs(x * y), floats(x)) ||
      // |x| / |y| = |x / y|
      r(abs(x) / abs(y), abs(x / y), floats(x)) ||
      // |x|^k = x^k, k even
      r(powi(abs(x)),
        compute(
            "x^k", [](Node* n, Node* s) { return with_source(n, s); }, x),
        even_small_power) ||

      // --- powers; see the canonical forms above ---
      // x^0 = 1, for NaN too
      r(power<0>(x), Literal(1.0)) ||
      // x^1 = x
      r(power<1>(x), x) ||
      // x^2 = x x
      r(power<2>(x), x * x) ||
      // x^-1 = 1 / x
      r(power<-1>(x), op<Op::DIV>(1, x), floats(x)) ||

      // --- idempotent functions ---
      // sign(sign x) = sign x
      r(op<Op::SIGN>(op<Op::SIGN>(x)), op<Op::SIGN>(x)) ||
      // floor(floor x) = floor x, as of any whole number
      r(op<Op::FLOOR>(op<Op::FLOOR>(x)), op<Op::FLOOR>(x)) ||
      // floor(ceil x) = ceil x
      r(op<Op::FLOOR>(op<Op::CEIL>(x)), op<Op::CEIL>(x)) ||
      // ceil(ceil x) = ceil x
      r(op<Op::CEIL>(op<Op::CEIL>(x)), op<Op::CEIL>(x)) ||
      // ceil(floor x) = floor x
      r(op<Op::CEIL>(op<Op::FLOOR>(x)), op<Op::FLOOR>(x)) ||
      // floor x = x for integers
      r(op<Op::FLOOR>(x), x, integers(x)) ||
      // ceil x = x for integers
      r(op<Op::CEIL>(x), x, integers(x)) ||
      // max(x, x) = x
      r(max(x, x), x) ||
      // min(x, x) = x
      r(min(x, x), x) ||
      // max(max(x, y), x) = max(x, y); for floats the sign of a zero may differ
      r(max(max(x, y), x), max(x, y), integers(x)) ||
      // min(min(x, y), x) = min(x, y)
      r(min(min(x, y), x), min(x, y), integers(x)) ||

      // --- integers: a ring that wraps ---
      // x + 0 = x
      r(x + 0, x, integers(x)) ||
      // 0 - x = -x
      r(op<Op::SUB>(0, x), -x, integers(x)) ||
      // x 0 = 0
      r(x * 0, Literal(0.0), integers(x)) ||
      // x - x = 0
      r(x - x, Literal(0.0), integers(x)) ||
      // x + y - y = x
      r((x + y) - y, x, integers(x)) ||
      // x - y + y = x
      r((x - y) + y, x, integers(x)) ||
      // -(x - y) = y - x
      r(-(x - y), y - x, integers(x)) ||
      // x mod 1 = 0
      r(x % 1, Literal(0.0), integers(x)) ||
      // (x + k) + l = x + (k + l)
      r((x + k0) + k1, x + fold(k0 + k1), integers(x)) ||
      // (x - k) + l = x + (l - k)
      r((x - k0) + k1, x + fold(k1 - k0), integers(x)) ||
      // (x + k) - l = x + (k - l)
      r((x + k0) - k1, x + fold(k0 - k1), integers(x)) ||
      // (x k) l = x (k l)
      r((x * k0) * k1, x * fold(k0 * k1), integers(x)) ||

      // --- choice ---
      // the same either way
      r(where(c, x, x), x) ||
      // true ? x : y = x
      r(where(kTrue, x, y), x) ||
      // false ? x : y = y
      r(where(kFalse, x, y), y) ||
      // !c ? x : y = c ? y : x
      r(where(!c, x, y), where(c, y, x)) ||
      // c ? (c ? x : y) : z = c ? x : z
      r(where(c, where(c, x, y), z), where(c, x, z)) ||
      // c ? x : (c ? y : z) = c ? x : z
      r(where(c, x, where(c, y, z)), where(c, x, z)) ||
      // c ? true : false = c
      r(where(c, kTrue, kFalse), c) ||
      // c ? false : true = !c
      r(where(c, kFalse, kTrue), !c) ||

      // --- logic ---
      // !!x = x
      r(!(!x), x) ||
      // x && true = x
      r(x && kTrue, x) ||
      // x && false = false
      r(x && kFalse, kFalse) ||
      // x || false = x
      r(x || kFalse, x) ||
      // x || true = true
      r(x || kTrue, kTrue) ||
      // x && x = x
      r(x && x, x) ||
      // x || x = x
      r(x || x, x) ||
      // x && !x = false
      r(x && !x, kFalse) ||
      // x || !x = true
      r(x || !x, kTrue) ||
      // !(x == y) is x != y, for NaN too
      r(!(x == y), x != y) ||
      // !(x != y) is x == y, for NaN too
      r(!(x != y), x == y) ||
      // !(x < y) is y <= x where there is no NaN
      r(!(x < y), y <= x, integers(x)) ||
      // !(x <= y) is y < x where there is no NaN
      r(!(x <= y), y < x, integers(x)) ||
      // x < x is false, for NaN too
      r(x < x, kFalse) ||
      // x <= x where there is no NaN
      r(x <= x, kTrue, integers(x)) ||
      // x == x where there is no NaN
      r(x == x, kTrue, not_floats(x)) ||
      // x != x is false where there is no NaN
      r(x != x, kFalse, not_floats(x)) ||
      // (x == true) = x
      r(x == kTrue, x, booleans(x)) ||
      // (x == false) = !x
      r(x == kFalse, !x, booleans(x)) ||
      // (x != false) = x
      r(x != kFalse, x, booleans(x)) ||
      // (x != true) = !x
      r(x != kTrue, !x, booleans(x)) ||

      // --- casts ---
      // to its own dtype
      r(cast(x), x, when("same dtype", [](const Node* n) { return n->dtype == n->src(0)->dtype; })) ||
      // through a dtype that holds every value: straight to the last
      r(cast(named(y, cast(x))),
        compute(
            "cast(x)", [](Node* n, Node* s) { return with_source(n, s); }, x),
        when(
            "the inner cast loses nothing",
            [](const Node* inner, const Node* source) { return holds_all(inner->dtype, source->dtype); }, y,
            x)) ||

      // --- movement ---
      // one that changes nothing
      r(AnyOf<Op::RESHAPE, Op::PERMUTE, Op::EXPAND, Op::SLICE, Op::PAD, Op::ROLL, Op::CAT>{},
        compute("its source", [](Node* n) { return UOp::share(n->src(0)); }),
        when("identity", is_identity_movement)) ||
      // a moved number is a number
      r(AnyOf<Op::RESHAPE, Op::PERMUTE, Op::EXPAND, Op::SLICE, Op::PAD, Op::ROLL, Op::CAT>{},
        compute("the number in this shape", [](Node* n) { return move_uniform(n); }),
        when("of a number",
             [](const Node* n) { return n->n_src > 0 && uniform_const(n->src(0)) != nullptr; })) ||
      // two of a kind are one: a reshape of a reshape
      r(op<Op::RESHAPE>(op<Op::RESHAPE>(x)),
        compute(
            "reshape(x)", [](Node* n, Node* s) { return with_source(n, s); }, x)) ||
      // an expansion of an expansion
      r(op<Op::EXPAND>(op<Op::EXPAND>(x)),
        compute(
            "expand(x)", [](Node* n, Node* s) { return with_source(n, s); }, x)) ||
      // a permutation of a permutation
      r(op<Op::PERMUTE>(named(y, op<Op::PERMUTE>(x))),
        compute(
            "permute(x)", [](Node* n, Node* inner) { return merge_permutes(n, inner); }, y)) ||
      // a slice of a slice
      r(op<Op::SLICE>(named(y, op<Op::SLICE>(x))),
        compute(
            "slice(x)", [](Node* n, Node* inner) { return merge_slices(n, inner); }, y)) ||
      // padding around padding
      r(op<Op::PAD>(named(y, op<Op::PAD>(x))),
        compute(
            "pad(x) of the same fill", [](Node* n, Node* inner) { return merge_pads(n, inner); }, y)) ||
      // a roll of a roll
      r(op<Op::ROLL>(named(y, op<Op::ROLL>(x))),
        compute(
            "roll(x) of the same axis", [](Node* n, Node* inner) { return merge_rolls(n, inner); }, y)) ||
      // the order of axes of size 1 is a matter of shape
      r(op<Op::PERMUTE>(x),
        compute(
            "reshape(x)", [](Node* n, Node* s) { return make(Op::RESHAPE, {UOp::share(s)}, n->shape()); }, x),
        when("only axes of size 1 move", permutes_only_ones)) ||
      // what a slice leaves out need not be made: padding
      r(op<Op::SLICE>(named(y, op<Op::PAD>(x))),
        compute(
            "slice(x), inside the padding", [](Node* n, Node* pad) { return slice_inside_pad(n, pad); },
            y)) ||
      // what a slice leaves out need not be made: parts of a CAT
      r(op<Op::SLICE>(named(y, AnyOf<Op::CAT>{})),
        compute(
            "slice of one part", [](Node* n, Node* cat) { return slice_inside_cat(n, cat); }, y)) ||
      // work once for all copies: f(expand(x), expand(y)) = expand(f(x, y))
      r(AnyElementwise{},
        compute("expand(elementwise(...))", [](Node* n) { return push_below_expand(n); })) ||
      // axes of size 1 need no reduction
      r(reduce(x), compute(
                       "reduce(reshape(x)) without axes of size 1",
                       [](Node* n, Node*) { return drop_reduced_ones(n); }, x));
}

}  // namespace tinyphys
