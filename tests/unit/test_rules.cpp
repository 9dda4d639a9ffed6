// The rule tester: the rule lists run over an applicator that makes inputs for each left side and holds the rule to
// its promise. Every rule fires, keeps the value (in every bit for rules_algebra), lowers the measure, and is
// reached in its list.
#include <algorithm>
#include <functional>
#include <set>

#include <doctest/doctest.h>

#include "../random_graph.hpp"
#include "rewrite/measure.hpp"
#include "rewrite/rewrite.hpp"
#include "rewrite/rules_algebra.hpp"
#include "rewrite/rules_recognise.hpp"
#include "tinyphys/error.hpp"

using namespace tinyphys;
using testing::RandomGraph;

namespace {

// Random nodes that have the form of a pattern; null where the first try does not fit.
struct Instance {
  RandomGraph& random;
  std::array<UOp, pattern::kMaxNames> bound;

  template <std::size_t I, pattern::Accept kAccept>
  UOp of(const pattern::Wild<I, kAccept>&, DType d, const Dims& s) {
    if (bound[I]) return bound[I]->dtype == d && shape_of(bound[I].get()) == s ? bound[I] : UOp();
    if constexpr (kAccept == pattern::Accept::kAny)
      bound[I] = random.any(d, s);
    else if constexpr (kAccept == pattern::Accept::kStructuralConst)
      bound[I] = uniform(random.structural_number(d), s);
    else
      bound[I] = uniform(random.number(d), s);
    return bound[I];
  }
  UOp of(const pattern::Literal& l, DType d, const Dims& s) {
    if (l.boolean != (d == DType::kBool)) return {};
    return random.numbers(constant(l.value, d), s);
  }
  template <Op kOp, class... S> UOp of(const pattern::Apply<kOp, S...>& p, DType d, const Dims& s) {
    // The sources in the order in which node() asks for them. A comparison asks for the dtype of its first source.
    std::size_t next = 0;
    bool fits = true;
    UOp n = random.node(kOp, d, s, [&](DType ds, const Dims& shape) {
      UOp source;
      std::size_t i = 0;
      std::apply(
          [&](const auto&... part) { ((i++ == next ? void(source = of(part, ds, shape)) : void()), ...); },
          p.sources);
      ++next;
      fits &= static_cast<bool>(source);
      return source ? source : random.leaf(ds, shape);
    });
    return fits ? n : UOp();
  }
  template <std::int64_t kExponent, class S>
  UOp of(const pattern::Power<kExponent, S>& p, DType d, const Dims& s) {
    if (d == DType::kBool) return {};
    const UOp x = of(p.source, d, s);
    return x ? make(Op::POWI, {x}, {kExponent}) : UOp();
  }
  template <Op... kOps> UOp of(const pattern::AnyOf<kOps...>&, DType d, const Dims& s) {
    return random.node(random.pick<Op>({kOps...}), d, s, random.any_source());
  }
  UOp of(const pattern::AnyElementwise&, DType d, const Dims& s) {
    const auto op = static_cast<Op>(random.below(kOpCount));
    if (!is_elementwise(op)) return {};
    const bool all_numbers = random.one_in(2);
    return random.node(op, d, s, [&](DType ds, const Dims& shape) {
      return all_numbers        ? random.numbers(random.number(ds), shape)
             : random.one_in(4) ? random.any(ds, shape)
                                : random.expanded(ds, shape);
    });
  }
  template <std::size_t I, class P> UOp of(const pattern::Named<I, P>& p, DType d, const Dims& s) {
    return bound[I] = of(p.inner, d, s);
  }
};

struct RuleTester {
  const RuleTable& table;
  bool exact;
  std::uint64_t seed;
  int rules = 0;
  std::int64_t fired = 0;

  template <class L, class R, class P = pattern::Always>
  bool operator()(L left, R right, P predicate = {},
                  std::source_location where = std::source_location::current()) {
    check(
        where, [&](Instance& instance, DType d, const Dims& s) { return instance.of(left, d, s); },
        [&](Node* root) { return pattern::try_rule(root, left, right, predicate); });
    return false;
  }

  // Not part of the template: it would be compiled once a rule.
  void check(const std::source_location& where,
             const std::function<UOp(Instance&, DType, const Dims&)>& instantiate,
             const std::function<UOp(Node*)>& try_rule);
};

void RuleTester::check(const std::source_location& where,
                       const std::function<UOp(Instance&, DType, const Dims&)>& instantiate,
                       const std::function<UOp(Node*)>& try_rule) {
  std::string rule = "line " + std::to_string(where.line());
  for (const pattern::RuleInfo& r : table.list())
    if (r.where.line() == where.line() && std::string_view(r.where.file_name()) == where.file_name())
      rule = r.text;
  CAPTURE(rule);
  CAPTURE(seed);
  RandomGraph random(seed + static_cast<std::uint64_t>(++rules), !exact);
  constexpr int kTries = 20000, kEnough = 60;
  int times = 0, reached = 0;
  for (int i = 0; i < kTries && times < kEnough; ++i) {
    Instance instance{random, {}};
    const DType d = exact ? random.dtype() : DType::kFloat64;
    const UOp root = instantiate(instance, d, random.shape());
    if (!root) continue;
    const UOp made = try_rule(root.get());
    if (!made) continue;
    ++times;
    CAPTURE(to_text(root));
    CAPTURE(to_text(made));
    REQUIRE(made->dtype == root->dtype);
    REQUIRE(same_shape(made.get(), root.get()));
    CHECK(measure(made.get()) < measure(root.get()));
    const auto before = evaluate<double>(root), after = evaluate<double>(made);
    CAPTURE(testing::values_text(before));
    CAPTURE(testing::values_text(after));
    // Real-number identities: a few roundings apart at mild values, powers of powers some more.
    constexpr double kRelative = 64 * 0x1p-53;
    CHECK((exact ? testing::same_bits(before, after) : testing::close(before, after, kRelative)));
    std::source_location first;
    if (table.by_op[static_cast<std::size_t>(root->op)](root.get(), first))
      reached += first.line() == where.line();
  }
  CHECK_MESSAGE(times > 0, "never fires");
  CHECK_MESSAGE(reached > 0, "always stands behind another rule");
  fired += times;
}

UOp sym(DType d = DType::kFloat64, Dims s = {3}) { return symbol(d, s); }
UOp full(double v, const UOp& like) { return uniform(v, like->dtype, like->shape()); }

}  // namespace

TEST_CASE("every rule of rules_algebra fires, keeps every bit, lowers the measure") {
  RuleTester t{algebra_table(), true, testing::seed_from_environment(1)};
  rules_algebra(t);
  MESSAGE(t.rules << " rules fired " << t.fired << " times; TINYPHYS_FUZZ_SEED=" << t.seed);
  CHECK(t.rules == static_cast<int>(algebra_table().list().size()));
}

TEST_CASE("every rule of rules_recognise fires, holds for real numbers, lowers the measure") {
  RuleTester t{recognise_table(), false, testing::seed_from_environment(1)};
  rules_recognise(t);
  MESSAGE(t.rules << " rules fired " << t.fired << " times; TINYPHYS_FUZZ_SEED=" << t.seed);
}

TEST_CASE("rules print with their source line, each line states one rule") {
  const std::string text = rules_text(algebra_table());
  CHECK(text.find("x * 1 -> x   rules_algebra.hpp:") != std::string::npos);
  CHECK(text.find("x / 2 -> x * 0.5   if float") != std::string::npos);
  CHECK(text.find("where(!c, x, y) -> where(c, y, x)") != std::string::npos);
  CHECK(text.find("-x * c0 -> x * fold-c0") != std::string::npos);
  std::set<unsigned> lines;
  for (const auto& r : algebra_table().list()) CHECK(lines.insert(r.where.line()).second);
  CHECK(rules_text(recognise_table()).find("sqrt(x) * sqrt(x) -> x   if x >= 0   rules_recognise.hpp:") !=
        std::string::npos);
}

TEST_CASE("a pattern takes both orders of a commutative op, and all of its names") {
  const UOp x = sym(), y = sym();
  CHECK(simplify(make(Op::MUL, {full(1, x), x})) == x);
  CHECK(simplify(make(Op::ADD, {make(Op::NEG, {x}), y})) == make(Op::SUB, {y, x}));
  CHECK(simplify(make(Op::ADD, {x, make(Op::NEG, {y})})) == make(Op::SUB, {x, y}));
  // Both orders of the outer op against both of the inner: (y sqrt(x)) sqrt(x) = y x.
  const UOp square = make(Op::MUL, {x, x}), root = make(Op::SQRT, {square});
  const UOp yr = make(Op::MUL, {y, root}), ry = make(Op::MUL, {root, y});
  for (const UOp& inner : {yr, ry})
    for (const UOp& u : {make(Op::MUL, {inner, root}), make(Op::MUL, {root, inner})}) {
      // sqrt(x x) is |x| by then
      const UOp r = simplify_for_recognition(u);
      CHECK(r != u);
    }
  const UOp e = make(Op::EXP, {x}), re = make(Op::SQRT, {e});
  for (const UOp& inner : {make(Op::MUL, {y, re}), make(Op::MUL, {re, y})})
    for (const UOp& u : {make(Op::MUL, {inner, re}), make(Op::MUL, {re, inner})})
      CHECK(simplify_for_recognition(u) == make(Op::MUL, {y, e}));
}

TEST_CASE("near misses: what holds for real numbers only is left alone") {
  const UOp x = sym(), y = sym();
  const std::vector<UOp> left_alone{
      make(Op::ADD, {x, full(0, x)}),             // -0 + 0 = +0
      make(Op::SUB, {x, full(-0.0, x)}),          // -0 is no number that rules look at
      make(Op::SUB, {full(0, x), x}),             // 0 - 0 = +0
      make(Op::MUL, {x, full(0, x)}),             // NaN, -0
      make(Op::SUB, {x, x}),                      // inf - inf
      make(Op::DIV, {x, x}),                      // 0 / 0
      make(Op::SUB, {make(Op::ADD, {x, y}), y}),  // rounding
      make(Op::NEG, {make(Op::SUB, {x, y})}),     // x = y
      make(Op::EQ, {x, x}),                       // NaN
      make(Op::LE, {x, x}),                       // NaN
      make(Op::NOT, {make(Op::LT, {x, y})}),      // NaN
      make(Op::MUL, {make(Op::SQRT, {x}), make(Op::SQRT, {x})}),
      make(Op::SQRT, {make(Op::MUL, {x, x})}),  // overflow
      make(Op::ABS, {make(Op::SQRT, {x})}),     // sqrt(-0) = -0
      make(Op::MUL, {x, full(1.0000001, x)}),
      make(Op::DIV, {x, full(4, x)}),  // a kernel argument
      make(Op::ADD, {make(Op::ADD, {x, full(1, x)}), full(1, x)}),
      make(Op::POWI, {x}, {3}),
      make(Op::POWI, {make(Op::NEG, {x})}, {3}),
      make(Op::CAST, {make(Op::CAST, {x}, {static_cast<std::int64_t>(DType::kFloat32)})},
           {static_cast<std::int64_t>(DType::kFloat64)}),
      make(Op::WHERE, {make(Op::LT, {x, y}), x, y}),
      make(Op::MAX, {make(Op::MAX, {x, y}), x}),
      make(Op::SIN, {full(0.1, x)}) /* pushed below the expand, not folded */,
  };
  for (const UOp& u : left_alone) {
    CAPTURE(to_text(u));
    if (u->op == Op::SIN)
      CHECK(uniform_const(simplify(u).get()) == nullptr);
    else
      CHECK(simplify(u) == u);
  }
  // Integers do have them.
  const UOp i = sym(DType::kInt64), j = sym(DType::kInt64);
  CHECK(simplify(make(Op::ADD, {i, full(0, i)})) == i);
  CHECK(simplify(make(Op::MUL, {full(0, i), i})) == full(0, i));
  CHECK(simplify(make(Op::SUB, {make(Op::ADD, {i, j}), i})) == j);
  CHECK(simplify(make(Op::NOT, {make(Op::LT, {i, j})})) == make(Op::LE, {j, i}));
  CHECK(simplify(make(Op::DIV, {i, full(2, i)})) == make(Op::DIV, {i, full(2, i)}));
  CHECK(simplify(make(Op::CAST, {make(Op::CAST, {i}, {static_cast<std::int64_t>(DType::kInt32)})},
                      {static_cast<std::int64_t>(DType::kInt64)}))
            ->op == Op::CAST);
  // 1.0 is not true.
  const UOp condition = sym(DType::kBool);
  CHECK(simplify(make(Op::WHERE, {condition, full(1, x), full(0, x)}))->op == Op::WHERE);
}

TEST_CASE("canonical forms") {
  const UOp x = sym();
  CHECK(simplify(make(Op::POWI, {x}, {2})) == make(Op::MUL, {x, x}));
  CHECK(simplify(make(Op::POWI, {x}, {-1})) == make(Op::DIV, {full(1, x), x}));
  CHECK(simplify(make(Op::DIV, {x, full(2, x)})) == make(Op::MUL, {x, full(0.5, x)}));
  CHECK(simplify(make(Op::MUL, {full(-1, x), make(Op::NEG, {x})})) == x);
  const UOp a = sym(DType::kFloat64, {1, 3}), b = sym(DType::kFloat64, {4, 1});
  const UOp ea = make(Op::EXPAND, {a}, {4, 3}), eb = make(Op::EXPAND, {b}, {4, 3});
  CHECK(simplify(make(Op::ADD, {make(Op::MUL, {ea, full(0.25, ea)}), make(Op::SIN, {eb})})) ==
        make(Op::ADD, {make(Op::EXPAND, {make(Op::MUL, {a, full(0.25, a)})}, {4, 3}),
                       make(Op::EXPAND, {make(Op::SIN, {b})}, {4, 3})}));
  // dt * 0.5 broadcast: folded where dt is a number, below the expand where it is a kernel argument.
  const UOp dt = param(0, DType::kFloat64, {}, true);
  const UOp many = make(Op::EXPAND, {make(Op::RESHAPE, {dt}, {1})}, {3});
  CHECK(simplify(make(Op::MUL, {many, full(0.5, many)})) ==
        make(Op::EXPAND,
             {make(Op::MUL, {make(Op::RESHAPE, {dt}, {1}), uniform(0.5, DType::kFloat64, Dims{1})})}, {3}));
  CHECK(simplify(make(Op::MUL, {full(0.001, x), full(0.5, x)})) == full(0.0005, x));
}

TEST_CASE("folding makes no number that rules may not look at from such that they may") {
  const UOp x = sym();
  const UOp four = make(Op::MUL, {full(2, x), full(2, x)});
  CHECK(uniform_const(simplify(four).get()) == nullptr);
  CHECK(simplify(make(Op::ADD, {full(1, x), full(1, x)})) == full(2, x));
  CHECK(simplify(make(Op::NEG, {full(2, x)})) == full(-2, x));
  CHECK(simplify(make(Op::LT, {full(1, x), full(2, x)})) == uniform(constant_bool(true), x->shape()));
  CHECK(simplify(make(Op::DIV, {full(1, x), full(3, x)})) == full(1.0 / 3.0, x));
  const UOp third = uniform(1.0 / 3.0, DType::kFloat32, Dims{3});
  CHECK(simplify(make(
            Op::DIV, {uniform(1, DType::kFloat32, Dims{3}), uniform(3, DType::kFloat32, Dims{3})})) == third);
}

TEST_CASE("provably_nonnegative") {
  const UOp x = sym(), y = sym();
  auto mul = [](const UOp& a, const UOp& b) { return make(Op::MUL, {a, b}); };
  const UOp xx = mul(x, x), ax = make(Op::ABS, {x}), ey = make(Op::EXP, {y});
  for (const UOp& u :
       {xx, ax, ey, make(Op::ADD, {xx, ax}), mul(ax, ey), mul(mul(x, ey), x), mul(full(2, x), xx),
        make(Op::REDUCE, {xx}, {0, 0}), make(Op::POWI, {x}, {4}), make(Op::POWI, {ax}, {3}),
        make(Op::DIV, {xx, ey}), make(Op::SQRT, {y}), mul(mul(x, y), mul(y, x)), make(Op::FMA, {x, x, ey}),
        make(Op::WHERE, {make(Op::LT, {x, y}), xx, ax})}) {
    CAPTURE(to_text(u));
    CHECK(provably_nonnegative(u.get()));
  }
  for (const UOp& u :
       {x, mul(x, y), make(Op::ADD, {xx, x}), make(Op::SUB, {xx, ax}), make(Op::NEG, {xx}),
        mul(full(-2, x), xx), mul(full(3, x), xx) /* a kernel argument */, make(Op::POWI, {x}, {3}),
        mul(mul(x, x), x), make(Op::SIN, {x}), make(Op::WHERE, {make(Op::LT, {x, y}), xx, y})}) {
    CAPTURE(to_text(u));
    CHECK(!provably_nonnegative(u.get()));
  }
  // An int64 square may wrap.
  const UOp i = sym(DType::kInt64);
  CHECK(!provably_nonnegative(mul(i, i).get()));
  // A tree with 2^64 leaves is given up on, or seen through, in bounded time.
  UOp u = xx;
  for (int k = 0; k < 64; ++k) u = make(Op::ADD, {u, u});
  CHECK(provably_nonnegative(u.get()));
  UOp chain = xx;
  for (int k = 0; k < 100000; ++k) chain = make(Op::ADD, {chain, xx});
  CHECK(!provably_nonnegative(chain.get()));
}

TEST_CASE("recognition sees through roots") {
  const UOp q = sym();
  const UOp qq = make(Op::MUL, {q, q}), norm = make(Op::SQRT, {make(Op::REDUCE, {qq}, {0, 0})});
  CHECK(simplify_for_recognition(make(Op::MUL, {norm, norm})) == make(Op::REDUCE, {qq}, {0, 0}));
  CHECK(simplify_for_recognition(make(Op::POWI, {norm}, {2})) == make(Op::REDUCE, {qq}, {0, 0}));
  const UOp root = make(Op::SQRT, {qq});
  CHECK(simplify_for_recognition(make(Op::MUL, {root, root})) == qq);
  CHECK(simplify_for_recognition(make(Op::POWI, {root}, {4})) == make(Op::POWI, {q}, {4}));
  const UOp a = make(Op::ABS, {q});
  CHECK(simplify_for_recognition(make(Op::MUL, {a, a})) == qq);
  CHECK(simplify_for_recognition(a) == a);
  const UOp unknown = make(Op::SQRT, {q});
  CHECK(simplify_for_recognition(make(Op::MUL, {unknown, unknown})) == make(Op::MUL, {unknown, unknown}));
}
