// Compile-time patterns for rewrite rules, after slinky's and Halide's.
//
// A pattern is a tiny type built by operators: `x * 1`, `where(!c, x, y)`, `op<Op::SIN>(x)`. Matching walks the
// type, so that the compiler turns a rule into nested ifs on op and pointers: no allocation and no reference
// counting until a rule has matched. Matching is in continuation style: what remains to be matched, and at the end
// the rule's predicate, is a callable, so that the other operand order of a commutative op is tried whenever
// anything later fails.
//
//   x y z w c     any node; a name that occurs twice must be the same node
//   c0 c1         a constant that rules may look at (is_structural_const), also broadcast to a shape
//   k0 k1         any constant, also broadcast to a shape: only for rules that fold
//   1, 0.5, kTrue a constant of this value, also broadcast; on the right built in the shape and dtype needed
//   named(y, p)   p, and the node that it matched under a name
//   fold(p)       right side only: the value of p, whose leaves are constants; no rewrite where it is not foldable
//   compute("what it makes", fn, x, y...)   right side: fn(root, x, y...) -> UOp; a null UOp: no rewrite
//   when("text", fn, x, y...)               predicate: fn(x, y...) -> bool
//
// A rule list is a function template over its applicator r: `return r(left, right) || r(left, right, when) || ...`.
#pragma once

#include <array>
#include <concepts>
#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "rewrite/uniform.hpp"
#include "uop/graph.hpp"
#include "uop/uop.hpp"

namespace tinyphys::pattern {

using Names = std::uint32_t;  // a bit for each wildcard
inline constexpr std::size_t kMaxNames = 9;
inline constexpr std::array<std::string_view, kMaxNames> kNameText{"x",  "y",  "z",  "w", "c",
                                                                   "c0", "c1", "k0", "k1"};

// What the names stand for while a rule is tried. The graph is held by the caller, so plain pointers do.
struct Bound {
  Node* root = nullptr;
  std::array<Node*, kMaxNames> node{};
};

// What a literal on the right side has to be.
struct Want {
  DType dtype;
  std::span<const std::int64_t> shape;
};

// Names the node that is matched as a whole, in when().
struct Root {
  static constexpr Names kNames = 0;
  static Node* bound(const Bound& b) { return b.root; }
};
inline constexpr Root root{};

struct PatternBase {};
template <class T>
concept Pattern = std::derived_from<T, PatternBase>;

// Wildcards that stand for nodes differ only in what they accept.
enum class Accept { kAny, kStructuralConst, kAnyConst };

template <std::size_t I, Accept kAccept = Accept::kAny> struct Wild : PatternBase {
  static constexpr Names kNames = Names{1} << I;
  static constexpr bool may_be(Op) { return true; }
  static Node* bound(const Bound& b) { return b.node[I]; }

  template <class Rest> bool match(Node* n, Bound& b, Rest&& rest) const {
    if constexpr (kAccept != Accept::kAny) {
      const Node* constant = uniform_const(n);
      if (!constant || (kAccept == Accept::kStructuralConst && !is_structural_const(constant))) return false;
    }
    if (b.node[I]) return b.node[I] == n && rest();
    b.node[I] = n;
    if (rest()) return true;
    b.node[I] = nullptr;
    return false;
  }
  UOp build(const Bound& b, const Want&) const { return UOp::share(b.node[I]); }
  std::string text() const { return std::string(kNameText[I]); }
};

inline constexpr Wild<0> x{};
inline constexpr Wild<1> y{};
inline constexpr Wild<2> z{};
inline constexpr Wild<3> w{};
inline constexpr Wild<4> c{};
inline constexpr Wild<5, Accept::kStructuralConst> c0{};
inline constexpr Wild<6, Accept::kStructuralConst> c1{};
inline constexpr Wild<7, Accept::kAnyConst> k0{};
inline constexpr Wild<8, Accept::kAnyConst> k1{};

// A constant of this value: true and false of bool, numbers of any other dtype (0 is +0).
struct Literal : PatternBase {
  static constexpr Names kNames = 0;
  static constexpr bool may_be(Op op) { return op == Op::CONST || op == Op::EXPAND || op == Op::RESHAPE; }

  double value;
  bool boolean = false;
  constexpr explicit Literal(double v) : value(v) {}
  constexpr explicit Literal(bool v) : value(v), boolean(true) {}

  template <class Rest> bool match(Node* n, Bound&, Rest&& rest) const {
    const Node* constant = uniform_const(n);
    return constant && (constant->dtype == DType::kBool) == boolean && is_const(constant, value) && rest();
  }
  UOp build(const Bound&, const Want& want) const { return uniform(value, want.dtype, want.shape); }
  std::string text() const {
    if (boolean) return value != 0 ? "true" : "false";
    std::string s = std::to_string(value);
    s.erase(s.find_last_not_of('0') + 1);
    if (s.back() == '.') s.pop_back();
    return s;
  }
};
inline constexpr Literal kTrue{true};
inline constexpr Literal kFalse{false};

constexpr std::string_view infix_text(Op op) {
  switch (op) {
    case Op::ADD: return " + ";
    case Op::SUB: return " - ";
    case Op::MUL: return " * ";
    case Op::DIV: return " / ";
    case Op::MOD: return " % ";
    case Op::AND: return " && ";
    case Op::OR: return " || ";
    case Op::LT: return " < ";
    case Op::LE: return " <= ";
    case Op::EQ: return " == ";
    case Op::NE: return " != ";
    default: return {};
  }
}

// The op over these sources. Args of the node (a cast's dtype, a reshape's dims) are not looked at; rules that need
// them use when() and compute().
template <Op kOp, Pattern... S> struct Apply : PatternBase {
  static constexpr Names kNames = (S::kNames | ... | Names{0});
  static constexpr bool may_be(Op op) { return op == kOp; }
  static_assert(traits(kOp).arity == static_cast<int>(sizeof...(S)));

  std::tuple<S...> sources;
  constexpr explicit Apply(S... s) : sources(s...) {}

  template <class Rest> bool match(Node* n, Bound& b, Rest&& rest) const {
    if (n->op != kOp) return false;
    if constexpr (sizeof...(S) == 1) {
      return std::get<0>(sources).match(n->src(0), b, rest);
    } else if constexpr (sizeof...(S) == 2) {
      const auto& [first, second] = sources;
      auto in_order = [&](Node* left, Node* right) {
        return first.match(left, b, [&] { return second.match(right, b, rest); });
      };
      if (in_order(n->src(0), n->src(1))) return true;
      if constexpr (traits(kOp).commutative) return in_order(n->src(1), n->src(0));
      return false;
    } else {
      static_assert(sizeof...(S) == 3);
      return std::get<0>(sources).match(n->src(0), b, [&] {
        return std::get<1>(sources).match(n->src(1), b,
                                          [&] { return std::get<2>(sources).match(n->src(2), b, rest); });
      });
    }
  }

  UOp build(const Bound& b, const Want& want) const {
    static_assert(is_elementwise(kOp) && kOp != Op::CAST && kOp != Op::POWI,
                  "a node with args is made by compute()");
    // A comparison does not tell the dtype of its sources.
    constexpr bool kHasLiteral = (std::is_same_v<S, Literal> || ...);
    static_assert(!(traits(kOp).cls == OpClass::kCompare && kHasLiteral));
    std::size_t i = 0;
    const std::array<UOp, sizeof...(S)> built = std::apply(
        [&](const auto&... s) {
          return std::array<UOp, sizeof...(S)>{
              s.build(b, kOp == Op::WHERE && i++ == 0 ? Want{DType::kBool, want.shape} : want)...};
        },
        sources);
    for (const UOp& s : built)
      if (!s) return {};  // a fold() that has no value
    return make(kOp, std::span<const UOp>(built));
  }

  std::string text() const {
    if constexpr (sizeof...(S) == 2 && !infix_text(kOp).empty()) {
      const auto& [l, r] = sources;
      return "(" + l.text() + std::string(infix_text(kOp)) + r.text() + ")";
    } else if constexpr (kOp == Op::NEG || kOp == Op::NOT) {
      return (kOp == Op::NEG ? "-" : "!") + std::get<0>(sources).text();
    } else {
      std::string s;
      for (char ch : name(kOp)) s += static_cast<char>(ch >= 'A' && ch <= 'Z' ? ch - 'A' + 'a' : ch);
      s += "(";
      std::apply([&](const auto&... p) { ((s += p.text() + ", "), ...); }, sources);
      s.resize(s.size() - 2);
      return s + ")";
    }
  }
};

// x^k for this k.
template <std::int64_t kExponent, Pattern S> struct Power : PatternBase {
  static constexpr Names kNames = S::kNames;
  static constexpr bool may_be(Op op) { return op == Op::POWI; }
  S source;

  template <class Rest> bool match(Node* n, Bound& b, Rest&& rest) const {
    return n->op == Op::POWI && n->arg(0) == kExponent && source.match(n->src(0), b, rest);
  }
  UOp build(const Bound& b, const Want& want) const {
    return make(Op::POWI, {source.build(b, want)}, {kExponent});
  }
  std::string text() const { return source.text() + "^" + std::to_string(kExponent); }
};

// Any node of these ops, with any sources.
template <Op... kOps> struct AnyOf : PatternBase {
  static constexpr Names kNames = 0;
  static constexpr bool may_be(Op op) { return ((op == kOps) || ...); }
  template <class Rest> bool match(Node* n, Bound&, Rest&& rest) const { return may_be(n->op) && rest(); }
  std::string text() const {
    std::string s;
    ((s += (s.empty() ? "" : "|") + std::string(name(kOps))), ...);
    return s;
  }
};
struct AnyElementwise : PatternBase {
  static constexpr Names kNames = 0;
  static constexpr bool may_be(Op op) { return is_elementwise(op); }
  template <class Rest> bool match(Node* n, Bound&, Rest&& rest) const { return may_be(n->op) && rest(); }
  std::string text() const { return "elementwise(...)"; }
};

template <std::size_t I, Pattern P> struct Named : PatternBase {
  static constexpr Names kNames = P::kNames | Names{1} << I;
  static constexpr bool may_be(Op op) { return P::may_be(op); }
  P inner;
  template <class Rest> bool match(Node* n, Bound& b, Rest&& rest) const {
    return inner.match(n, b, [&] { return Wild<I>{}.match(n, b, rest); });
  }
  std::string text() const { return std::string(kNameText[I]) + "=" + inner.text(); }
};

// --- right sides ---

template <Pattern P> struct Fold : PatternBase {
  static constexpr Names kNames = P::kNames;
  P inner;
  UOp build(const Bound& b, const Want& want) const { return fold_constants(inner.build(b, want).get()); }
  std::string text() const { return "fold" + inner.text(); }
};

template <class F, class... W> struct Compute : PatternBase {
  static constexpr Names kNames = (W::kNames | ... | Names{0});
  std::string_view what;
  F fn;
  UOp build(const Bound& b, const Want&) const { return fn(b.root, W::bound(b)...); }
  std::string text() const { return std::string(what); }
};

// --- predicates ---

struct Always {
  static constexpr Names kNames = 0;
  bool operator()(const Bound&) const { return true; }
  std::string text() const { return {}; }
};
template <class F, class... W> struct When {
  static constexpr Names kNames = (W::kNames | ... | Names{0});
  std::string_view what;
  F fn;
  bool operator()(const Bound& b) const { return fn(static_cast<const Node*>(W::bound(b))...); }
  std::string text() const { return std::string(what); }
};

// fn(x, y...) of the bound nodes, of which `root` is always one; without names, fn(root).
template <class F, class... W> constexpr auto when(std::string_view what, F fn, W...) {
  if constexpr (sizeof...(W) == 0)
    return When<F, Root>{what, fn};
  else
    return When<F, W...>{what, fn};
}
template <class F, class... W> constexpr Compute<F, W...> compute(std::string_view what, F fn, W...) {
  return {{}, what, fn};
}

// --- operators ---

template <class T>
concept Operand = Pattern<T> || std::is_arithmetic_v<T>;
template <Operand T> constexpr auto pattern_of(T t) {
  if constexpr (Pattern<T>)
    return t;
  else
    return Literal(static_cast<double>(t));
}
template <Op kOp, Operand... T> constexpr auto op(T... t) {
  return Apply<kOp, decltype(pattern_of(t))...>(pattern_of(t)...);
}

template <class A, class B>
concept Operands = Operand<A> && Operand<B> &&(Pattern<A> || Pattern<B>);

template <class A, class B>
requires Operands<A, B>
constexpr auto operator+(A a, B b) { return op<Op::ADD>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator-(A a, B b) { return op<Op::SUB>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator*(A a, B b) { return op<Op::MUL>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator/(A a, B b) { return op<Op::DIV>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator%(A a, B b) { return op<Op::MOD>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator&&(A a, B b) { return op<Op::AND>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator||(A a, B b) { return op<Op::OR>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator<(A a, B b) { return op<Op::LT>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator<=(A a, B b) { return op<Op::LE>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator==(A a, B b) { return op<Op::EQ>(a, b); }
template <class A, class B>
requires Operands<A, B>
constexpr auto operator!=(A a, B b) { return op<Op::NE>(a, b); }
template <Pattern A> constexpr auto operator-(A a) { return op<Op::NEG>(a); }
template <Pattern A> constexpr auto operator!(A a) { return op<Op::NOT>(a); }
template <Operand C, Operand A, Operand B> constexpr auto where(C condition, A a, B b) {
  return op<Op::WHERE>(condition, a, b);
}
template <Operand A, Operand B, Operand C> constexpr auto fma(A a, B b, C addend) {
  return op<Op::FMA>(a, b, addend);
}
template <Operand A, Operand B> constexpr auto max(A a, B b) { return op<Op::MAX>(a, b); }
template <Operand A, Operand B> constexpr auto min(A a, B b) { return op<Op::MIN>(a, b); }
template <Pattern A> constexpr auto abs(A a) { return op<Op::ABS>(a); }
template <Pattern A> constexpr auto sqrt(A a) { return op<Op::SQRT>(a); }
template <Pattern A> constexpr auto cast(A a) { return op<Op::CAST>(a); }
template <Pattern A> constexpr auto powi(A a) { return op<Op::POWI>(a); }
template <std::int64_t kExponent, Pattern A> constexpr auto power(A a) { return Power<kExponent, A>{{}, a}; }
template <Pattern A> constexpr auto reduce(A a) { return op<Op::REDUCE>(a); }
template <Pattern A> constexpr auto fold(A a) { return Fold<A>{{}, a}; }
template <std::size_t I, Pattern P> constexpr auto named(Wild<I>, P p) { return Named<I, P>{{}, p}; }

// --- one rule ---

// The right side for n where the left side and the predicate match, else null.
template <class L, class R, class P>
UOp try_rule(Node* n, const L& left, const R& right, const P& predicate) {
  static_assert(Pattern<L> && (Pattern<R>));
  static_assert((R::kNames & ~L::kNames) == 0, "the right side uses a name that the left side does not bind");
  static_assert((P::kNames & ~L::kNames) == 0, "the predicate uses a name that the left side does not bind");
  Bound b;
  b.root = n;
  UOp result;
  left.match(n, b, [&] {
    if (!predicate(b)) return false;
    result = right.build(b, Want{n->dtype, n->shape()});
    return static_cast<bool>(result);
  });
  return result;
}

template <class L, class R, class P>
std::string rule_text(const L& left, const R& right, const P& predicate) {
  auto bare = [](std::string s) {  // the outermost pair of an infix form says nothing
    if (s.empty() || s.front() != '(' || s.back() != ')') return s;
    int depth = 0;
    for (std::size_t i = 0; i + 1 < s.size(); ++i) {
      depth += s[i] == '(' ? 1 : s[i] == ')' ? -1 : 0;
      if (depth == 0) return s;
    }
    return s.substr(1, s.size() - 2);
  };
  std::string s = bare(left.text()) + " -> " + bare(right.text());
  if (const std::string p = predicate.text(); !p.empty()) s += "   if " + p;
  return s;
}

// A rule as its list states it.
struct RuleInfo {
  std::string text;
  std::source_location where;
};

// The applicator that only collects the rules of a list.
struct RulePrinter {
  std::vector<RuleInfo> rules;

  template <class L, class R, class P = Always>
  bool operator()(L left, R right, P predicate = {},
                  std::source_location where = std::source_location::current()) {
    rules.push_back({rule_text(left, right, predicate), where});
    return false;
  }
};

}  // namespace tinyphys::pattern
