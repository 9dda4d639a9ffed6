// The additive terms of an energy.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "analysis/terms.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/build.hpp"
#include "uop/evaluate.hpp"
#include "uop/graph.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

using Energy = std::function<Tensor(const Tensor& q, const Tensor& p, const Tensor& k)>;
constexpr std::int64_t kSize =
    13;  // of no other test: equal bodies share their nodes, and the lines of these

struct Case {
  tp::UOp lambda;
  tp::Terms terms;
};

// k is captured: data of the size of q.
Case terms_of(const Energy& h, std::size_t limit = tp::kMaxTerms) {
  const tp::Dims shape{kSize};
  const tp::UOp q = tp::symbol(tp::DType::kFloat64, shape), p = tp::symbol(tp::DType::kFloat64, shape),
                k = tp::symbol(tp::DType::kFloat64, shape);
  const tp::UOp energy = tp::uop(h(tp::tensor(q), tp::tensor(p), tp::tensor(k)));
  std::vector<tp::UOp> captured;
  Case c;
  c.lambda = tp::close_lambda(std::span(&energy, 1), std::vector<tp::UOp>{q, p, k}, captured);
  std::vector<tp::StateGroup> groups(static_cast<std::size_t>(c.lambda->arg(0)), tp::StateGroup::kNone);
  groups[0] = tp::StateGroup::kQ;
  groups[1] = tp::StateGroup::kP;
  const std::vector<tp::NamedOutput> outputs{{"", c.lambda.src(0)}};
  const std::vector<std::string> names{"q", "p", "k"};
  c.terms = tp::find_terms(outputs, groups, names, limit);

  // The values add up to the energy.
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  std::vector<tp::UOp> roots{c.lambda.src(0)};
  for (const tp::Term& t : c.terms.list) roots.push_back(t.value);
  std::vector<tp::Node*> nodes;
  for (const tp::UOp& r : roots) nodes.push_back(r.get());
  std::vector<std::optional<tp::Value<double>>> params(static_cast<std::size_t>(c.lambda->arg(0)));
  const auto values = tp::evaluate<double>(nodes, [&](const tp::Node* n) -> std::optional<tp::Value<double>> {
    if (n->op != tp::Op::PARAM) return std::nullopt;
    auto& v = params[static_cast<std::size_t>(n->arg(0))];
    if (!v) {
      const auto i = static_cast<std::size_t>(n->arg(0));
      v = tp::Value<double>{n->dtype, tp::shape_of(n), {}, {}};
      if (i >= 3 && captured[i - 3]->op == tp::Op::CONST)
        v->real.push_back(tp::const_double(captured[i - 3].get()));
      else
        for (std::int64_t j = 0; j < n->size(); ++j) v->real.push_back(normal(random));
    }
    return *v;
  });
  double sum = 0, size = 1e-300;
  for (std::size_t i = 1; i < values.size(); ++i) {
    REQUIRE(values[i].real.size() == 1);
    sum += values[i].real[0];
    size += std::fabs(values[i].real[0]);
  }
  CHECK(std::fabs(sum - values[0].real[0]) <= 1e-13 * size);
  return c;
}

std::string joined(const std::vector<std::string>& v) {
  std::string all;
  for (const std::string& s : v) all += s + "\n";
  return all;
}
std::string texts(const Case& c) {
  std::string all;
  for (const tp::Term& x : c.terms.list) all += x.text + "\n";
  return all;
}

}  // namespace

TEST_CASE("terms: the usual energy") {
  const Case c = terms_of([](const Tensor& q, const Tensor& p, const Tensor& k) {
    const Tensor d = q.slice(0, 1, kSize) - q.slice(0, 0, kSize - 1);
    return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum() + (d * d).sum() + 2.0 * pow(q, 4).sum() -
           cos(q).sum() + 1.5;
  });
  CHECK(texts(c) ==
        joined({"0.5 * sum(p * p)", "0.5 * sum(k * q * q)",
                "sum((slice(q) - slice(q)) * (slice(q) - slice(q)))", "2 * sum(q^4)", "-sum(cos(q))", "x3"}));
  REQUIRE(c.terms.list.size() == 6);
  CHECK(c.terms.list[0].degree == tp::Degree{0, 2, 2});
  CHECK(c.terms.list[1].degree == tp::Degree{2, 0, 2});
  CHECK(c.terms.list[2].degree == tp::Degree{2, 0, 2});
  CHECK(c.terms.list[3].degree == tp::Degree{4, 0, 4});
  CHECK_FALSE(c.terms.list[4].degree.finite());
  CHECK(c.terms.list[5].degree == tp::Degree{});
  CHECK(c.terms.list[0].where.rfind("test_terms.cpp:", 0) == 0);
  CHECK(c.terms.stopped == "");
  CHECK(tp::degree_text(c.terms.list[0].degree) == "2 in p");
  CHECK(tp::degree_text(c.terms.list[4].degree) == "not polynomial in q");
  CHECK(tp::degree_text(c.terms.list[5].degree) == "none");
}

TEST_CASE("terms: sums are followed through negation, factors, reductions and movement") {
  const auto check = [](const Energy& h, const std::vector<std::string>& expected) {
    const Case c = terms_of(h);
    CHECK(texts(c) == joined(expected));
  };
  check([](const Tensor& q, const Tensor& p, const Tensor&) { return (q * q + p * p).sum(); },
        {"sum(q * q)", "sum(p * p)"});
  check([](const Tensor& q, const Tensor& p, const Tensor&) { return -(q * q + p * p).sum(); },
        {"-sum(q * q)", "-sum(p * p)"});
  check([](const Tensor& q, const Tensor& p, const Tensor&) { return q.sum() - (p.sum() - q.sum()); },
        {"2 * sum(q)", "-sum(p)"});
  check([](const Tensor& q, const Tensor& p, const Tensor& k) { return (k * (q * q + p * p)).sum(); },
        {"sum(k * q * q)", "sum(k * p * p)"});
  check([](const Tensor& q, const Tensor& p, const Tensor& k) { return k.sum() * (q * q + p * p).sum(); },
        {"sum(k) * sum(q * q)", "sum(k) * sum(p * p)"});
  check([](const Tensor& q, const Tensor& p, const Tensor& k) { return ((q * q - p * p) / k).sum(); },
        {"sum(1 / k * q * q)", "sum(-(1 / k) * p * p)"});
  check([](const Tensor& q, const Tensor& p, const Tensor&) { return 0.5 * -(q * q - p * p).sum(); },
        {"-0.5 * sum(q * q)", "0.5 * sum(p * p)"});
  check(
      [](const Tensor& q, const Tensor& p, const Tensor&) {
        return (q * q + p * p).reshape({1, kSize}).transpose().flip(0).sum();
      },
      {"sum(q * q)", "sum(p * p)"});
  check(
      [](const Tensor& q, const Tensor& p, const Tensor&) {
        return tp::stack({q * q, p * p}, 0).sum();
      },
      {"sum(q * q)", "sum(p * p)"});
}

TEST_CASE("terms: products, choices and functions stay whole") {
  const auto count = [](const Energy& h) { return terms_of(h).terms.list.size(); };
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor&) { return (q * p).sum(); }) == 1);
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor&) { return ((q + p) * (q - p)).sum(); }) ==
        1);
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor&) { return pow(q + p, 2).sum(); }) == 1);
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor&) { return (q / (1.0 + p * p)).sum(); }) ==
        1);
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor&) { return exp(q.sum() + p.sum()); }) == 1);
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor& k) {
          return where(k > 0.0, q * q + p * p, p).sum();
        }) == 1);
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor&) { return (q + p).max(); }) == 1);
  CHECK(count([](const Tensor& q, const Tensor& p, const Tensor& k) { return (k * q * p).sum(); }) == 1);
  CHECK(count([](const Tensor&, const Tensor&, const Tensor& k) { return (k + k * k).sum(); }) == 1);
  // A factor that depends on the state is none.
  const Case c = terms_of(
      [](const Tensor& q, const Tensor& p, const Tensor&) { return q.sum() * (p * p + q).sum() + p.sum(); });
  CHECK(texts(c) == joined({"sum(q) * sum(p * p + q)", "sum(p)"}));
  CHECK(c.terms.list[0].joins_q_and_p());
  CHECK(tp::degree_text(c.terms.list[0].degree) == "3 in q and p (2 in q, 2 in p)");
}

TEST_CASE("terms: padding with a number other than zero is no linear map") {
  const tp::Dims shape{2};
  const tp::UOp q = tp::param(0, tp::DType::kFloat64, shape), p = tp::param(1, tp::DType::kFloat64, shape);
  for (const double fill : {0.0, 1.0}) {
    const tp::UOp padded = tp::make(tp::Op::PAD, {tp::add(q, p)}, {tp::bits(fill), 1, 2});
    const std::vector<tp::NamedOutput> outputs{{"", tp::sum_all(padded)}};
    const std::vector<tp::StateGroup> groups{tp::StateGroup::kQ, tp::StateGroup::kP};
    CHECK(tp::find_terms(outputs, groups).list.size() == (fill == 0 ? 2 : 1));
  }
}

TEST_CASE("terms: outputs give their names") {
  const tp::UOp q = tp::param(0, tp::DType::kFloat64, {}), p = tp::param(1, tp::DType::kFloat64, {});
  const std::vector<tp::NamedOutput> outputs{
      {"kinetic", tp::mul(p, p)}, {"springs", tp::add(tp::mul(q, q), tp::powi(q, 4))}, {"", tp::mul(q, p)}};
  const std::vector<tp::StateGroup> groups{tp::StateGroup::kQ, tp::StateGroup::kP};
  const auto terms = tp::find_terms(outputs, groups).list;
  REQUIRE(terms.size() == 4);
  const std::vector<std::string> expected{"kinetic", "springs", "springs", ""};
  for (std::size_t i = 0; i < 4; ++i) CHECK(terms[i].name == expected[i]);
  CHECK(terms[3].joins_q_and_p());
}

TEST_CASE("terms: what is added twice is one term, and a tree of 2^200 leaves is walked once") {
  const Case twice =
      terms_of([](const Tensor& q, const Tensor&, const Tensor&) { return (q * q).sum() + (q * q).sum(); });
  CHECK(texts(twice) == joined({"2 * sum(q * q)"}));
  const Case deep = terms_of([](const Tensor& q, const Tensor& p, const Tensor&) {
    Tensor x = (q * q).sum() + (p * p).sum();
    for (int i = 0; i < 200; ++i) x = x + x;
    return x;
  });
  CHECK(deep.terms.list.size() == 2);
  CHECK(deep.terms.stopped == "");
}

TEST_CASE("terms: a long sum ends with a reason, and still adds up") {
  const Case c = terms_of(
      [](const Tensor& q, const Tensor& p, const Tensor&) {
        Tensor x = (p * p).sum();
        for (int i = 0; i < 500; ++i) x = x + (i + 3.0) * q.sum() * q.sum();
        return x;
      },
      100);
  CHECK(c.terms.list.size() == 100);
  CHECK(c.terms.stopped == "more than 100 terms: sums are left within some");
  // A hundred thousand summands are walked in linear time.
  const tp::UOp q = tp::param(0, tp::DType::kFloat64, {}), p = tp::param(1, tp::DType::kFloat64, {});
  tp::UOp x = tp::mul(p, p);
  for (int i = 0; i < 100'000; ++i) x = tp::add(x, tp::scaled(tp::mul(q, q), i + 3.0));
  const std::vector<tp::NamedOutput> outputs{{"", x}};
  const std::vector<tp::StateGroup> groups{tp::StateGroup::kQ, tp::StateGroup::kP};
  CHECK(tp::find_terms(outputs, groups).list.size() == tp::kMaxTerms);
  // And a million factors around one term.
  x = tp::add(tp::mul(q, q), p);
  for (int i = 0; i < 300'000; ++i) x = tp::scaled(x, 1.0 + 1e-9 * i);
  const std::vector<tp::NamedOutput> nested{{"", x}};
  CHECK(tp::find_terms(nested, groups).list.size() == 2);
}
