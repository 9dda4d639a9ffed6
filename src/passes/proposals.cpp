#include "passes/proposals.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include <fmt/format.h>

#include "analysis/terms.hpp"
#include "derive/flow_map.hpp"
#include "derive/gradient.hpp"
#include "derive/jvp.hpp"
#include "derive/lower_evolve.hpp"
#include "linalg/dense.hpp"
#include "passes/fast_modes.hpp"
#include "passes/loop_lift.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr double kMostWork = 3e7;     // elements evaluated for a Hessian
constexpr double kWorthSaying = 1.2;  // a gain
constexpr double kStiffer = 2;        // omega of one term over that of another
constexpr double kEccentric = 0.5;    // from which on equal times are a waste of steps
constexpr double kMostTurn = 2.5;     // h Omega of a slow level: short of the half period at pi

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

class Proposals {
 public:
  Proposals(const Node* evolve, const Labels& labels)
      : e_(evolve), record_(e_.record()), labels_(labels), values_(e_.captured()), n_(e_.q()->size()) {}

  Records run() {
    const std::optional<Value<double>> dt = record_.dt_in_energy ? std::nullopt : known_value(e_.dt());
    q_ = known_value(e_.q());
    p_ = known_value(e_.p());
    const auto none = [](const std::string& why) {
      return Records{{Finding::kOffers, "no other method is proposed: " + why}};
    };
    if (!dt || dt->real.empty()) return none("dt is not known here");
    if (!q_ || !p_) return none("the state is not known here");
    if (!values_.unknown().empty()) return none(values_.unknown());
    if (n_ == 0 || n_ > kMostModes)
      return none(fmt::format("it looks at 1 to {} coordinates, here are {}", kMostModes, n_));
    h_ = std::fabs(dt->real[0]);
    if (h_ == 0) return none("dt is 0");
    if (const std::string why = read_terms(); !why.empty()) return none(why);
    const UOp kinetic = sum_of([](const Part& t) { return t.term.degree.p > 0; });
    if (!kinetic) return none("H has no kinetic energy");
    if (!masses(kinetic)) return none(why_);
    try {
      split();
      levels();
      time_warp(kinetic);
    } catch (const Error&) {
      return none("its terms cannot be evaluated here");
    }
    if (found_.empty()) return none(why_.empty() ? "no term is much stiffer than the others" : why_);
    return std::move(found_);
  }

 private:
  struct Part {
    Term term;
    std::size_t of;  // output
  };

  std::string read_terms() {
    std::vector<StateGroup> groups(at(e_.energy()->arg(0)), StateGroup::kNone);
    groups[0] = StateGroup::kQ;
    groups[1] = StateGroup::kP;
    for (std::size_t i = 0; i < e_.energy()->n_src; ++i) {
      const NamedOutput whole{"", UOp::share(e_.energy()->src(i))};
      for (Term& t : find_terms(std::span(&whole, 1), groups).list) {
        if (t.joins_q_and_p()) return "the term " + t.text + " joins q and p";
        if (t.degree.p > 2) return "the kinetic energy is not quadratic";
        parts_.push_back({std::move(t), i});
      }
    }
    return {};
  }

  // A LAMBDA of the sum of the terms that are wanted; null where there are none.
  template <class F> UOp sum_of(F&& wanted) const {
    std::vector<UOp> terms;
    for (const Part& t : parts_)
      if (wanted(t)) terms.push_back(t.term.value);
    if (terms.empty()) return {};
    const UOp sum = total_energy(terms);
    return with_outputs(e_.energy(), std::span(&sum, 1));
  }
  std::vector<UOp> symbols() const {
    std::vector<UOp> s{symbol_like(e_.q()), symbol_like(e_.p())};
    for (Node* c : e_.captured()) s.push_back(symbol_like(c));
    return s;
  }
  Value<double> evaluated(const UOp& graph, const std::vector<UOp>& s, const Value<double>& q,
                          const UOp& direction = {}, const Value<double>& d = {}) const {
    const ParamValue captured = values_.by_param();
    return evaluate<double>(graph, [&](const Node* n) -> std::optional<Value<double>> {
      if (n == direction.get()) return d;
      for (std::size_t i = 0; i < s.size(); ++i)
        if (n == s[i].get()) return i == 0 ? q : i == 1 ? *p_ : captured(static_cast<std::int64_t>(i), n);
      return {};
    });
  }
  double value_of(const UOp& lambda, const Value<double>& q) const {
    const std::vector<UOp> s = symbols();
    return evaluated(tinyphys::apply(lambda.get(), s)[0], s, q).real[0];
  }

  // The second derivatives by q (which = 0) or p (1) at the start, [n, n]; empty where they would be too much work.
  std::vector<double> hessian(const UOp& lambda, std::size_t which) {
    const std::vector<UOp> s = symbols();
    const UOp direction = symbol_like(s[which].get());
    const UOp slope = gradient(tinyphys::apply(lambda.get(), s)[0], std::vector<UOp>{s[which]})[0];
    const UOp change =
        jvp(std::vector<UOp>{slope}, std::vector<UOp>{s[which]}, std::vector<UOp>{direction})[0];
    std::vector<double> m(at(n_ * n_), 0.0);
    if (!change) return m;
    double work = 0;
    for (const Node* n : toposort(change)) work += static_cast<double>(n->size());
    if (work * static_cast<double>(n_) > kMostWork) {
      why_ = "the second derivatives of its terms would be too much work to look at";
      return {};
    }
    for (std::int64_t j = 0; j < n_; ++j) {
      Value<double> unit{.dtype = DType::kFloat64, .shape = shape_of(e_.q()), .real = {}, .integer = {}};
      unit.real.assign(at(n_), 0.0);
      unit.real[at(j)] = 1;
      const Value<double> column = evaluated(change, s, *q_, direction, unit);
      for (std::int64_t i = 0; i < n_; ++i) m[at(i * n_ + j)] = column.real[at(i)];
    }
    return m;
  }

  bool masses(const UOp& kinetic) {
    const std::vector<double> m = hessian(kinetic, 1);
    if (m.empty()) return false;
    for (std::int64_t i = 0; i < n_; ++i)
      for (std::int64_t j = 0; j < n_; ++j) {
        if (i != j && m[at(i * n_ + j)] != 0) why_ = "the masses are a matrix";
        if (i == j && !(m[at(i * n_ + j)] >= 0)) why_ = "a mass is negative";
        if (i == j) root_.push_back(std::sqrt(m[at(i * n_ + j)]));
      }
    return why_.empty();
  }
  // The largest frequency under a potential at the start, also that of the fastest fall; nothing where it is not known.
  std::optional<double> omega(const UOp& potential) {
    if (!potential) return 0.0;
    std::vector<double> m = hessian(potential, 0), squares(at(n_));
    if (m.empty()) return {};
    for (std::int64_t i = 0; i < n_; ++i)
      for (std::int64_t j = 0; j < n_; ++j) m[at(i * n_ + j)] *= root_[at(i)] * root_[at(j)];
    if (const std::string why = symmetric_eigen(n_, m.data(), squares.data()); !why.empty()) {
      why_ = "the second derivatives at the start: " + why;
      return {};
    }
    return std::sqrt(std::max(std::fabs(squares.front()), std::fabs(squares.back())));
  }
  double work_of(const UOp& potential) const {
    return potential ? evaluation_work(force_lambda(potential.get(), e_.q(), e_.p()).get()) : 0;
  }

  void split() {
    const auto degree_two = [](const Part& t) { return t.term.degree.joint <= 2; };
    const UOp fast = sum_of([&](const Part&t) { return degree_two(t) && t.term.degree.p == 0; }),
              rest = sum_of([&](const Part&t) { return !degree_two(t); }), flow = sum_of(degree_two);
    if (!fast || !rest) return;
    const std::optional<double> omega_fast = omega(fast), omega_rest = omega(rest);
    if (!omega_fast || !omega_rest || *omega_fast < kStiffer * *omega_rest || *omega_rest == 0) return;
    const double longer = *omega_fast / *omega_rest;
    const QuadraticSteps steps{
        .energy = flow, .captured = {}, .q = UOp::share(e_.q()), .p = UOp::share(e_.p())};
    const auto n = static_cast<double>(n_);
    const double now = work_of(fast) + work_of(rest) + 4 * n,
                 then = work_of(rest) + 2 * n + (steps.kind() == FlowKind::kBlocks ? 8 * n : 8 * n * n);
    const double gain = longer * now / then;
    if (gain < kWorthSaying) return;
    found_.push_back(
        {Finding::kOffers,
         fmt::format(
             "Method::Split: {} quadratic and stiff, omega_max dt = {:.3g}, the others have omega {:.3g} "
             "at the start: it would permit dt {:.3g}, {:.2g} x as fast by the arithmetic of a step",
             names(degree_two), h_ * *omega_fast, *omega_rest, h_ * longer, gain),
         "",
         {{"proposal", std::string("Split")}, {"dt", h_ * longer}, {"gain", gain}}});
  }
  template <class F> std::string names(F&& wanted) const {
    std::vector<std::string> list;
    for (const Part& t : parts_) {
      if (!wanted(t) || t.term.degree.p > 0 || t.term.degree.q == 0) continue;
      const bool named = t.of < labels_.names.size() && !labels_.names[t.of].empty();
      const std::string name = named ? "\"" + labels_.names[t.of] + "\"" : t.term.text;
      if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
    }
    std::string text = list.size() == 1 ? "the term " : "the terms ";
    for (std::size_t i = 0; i < list.size(); ++i)
      text += (i == 0 ? "" : i + 1 == list.size() ? " and " : ", ") + list[i];
    return text + (list.size() == 1 ? " is" : " are");
  }

  void levels() {
    if (record_.integrator != Integrator::LeapfrogKDK || e_.energy()->n_src < 2) return;
    struct Named {
      std::size_t of;
      double omega, work;
    };
    std::vector<Named> terms;
    for (std::size_t i = 0; i < e_.energy()->n_src; ++i) {
      if (i >= labels_.names.size() || labels_.names[i].empty()) return;
      const UOp v =
          sum_of([&](const Part& t) { return t.of == i && t.term.degree.p == 0 && t.term.degree.q > 0; });
      if (!v) continue;
      const std::optional<double> w = omega(v);
      if (!w) return;
      terms.push_back({i, *w, work_of(v)});
    }
    if (terms.size() < 2) return;
    double fastest = 0;
    for (const Named& t : terms) fastest = std::max(fastest, t.omega);
    double slow = 0, slow_work = 0, fast_work = 4 * static_cast<double>(n_);
    for (const Named& t : terms)
      if (t.omega * kStiffer > fastest) {
        fast_work += t.work;
      } else {
        slow = std::max(slow, t.omega);
        slow_work += t.work;
      }
    if (slow_work == 0) return;
    // Short of the half period, where a slow kick would pump the fast motion.
    const double most = std::floor(kMostTurn / (h_ * fastest) + 1e-9);
    const double times = std::min(slow == 0 ? most : std::round(fastest / slow), most);
    if (times < 2) return;
    const double gain = (fast_work + slow_work) / (fast_work + slow_work / times);
    if (gain < kWorthSaying) return;
    std::string bounds, list;
    for (const Named& t : terms) {
      const std::string& name = labels_.names[t.of];
      bounds += fmt::format("{}\"{}\" {:.3g}", bounds.empty() ? "" : ", ", name, t.omega * t.omega);
      list += fmt::format("{}{{\"{}\", {}}}", list.empty() ? "" : ", ", name,
                          t.omega * kStiffer > fastest ? times : 1.0);
    }
    found_.push_back(
        {Finding::kOffers,
         fmt::format("RESPA: the largest omega^2 of each term at the start, {}: .dt = {:.6g}, .levels = "
                     "{{{}}}, {:.2g} x as fast by the arithmetic of a step",
                     bounds, h_ * times, list, gain),
         "",
         {{"proposal", std::string("levels")}, {"dt", h_ * times}, {"gain", gain}}});
  }

  void time_warp(const UOp& kinetic) {
    const UOp potential = sum_of([](const Part& t) { return t.term.degree.p == 0; });
    const auto shape = e_.q()->shape();
    const bool few = shape.size() == 1 ? n_ <= 3 : shape.size() == 2 && shape[0] <= 2;  // one body, or two
    if (!potential || record_.batch_axes > 0 || !few) return;
    const double v = value_of(potential, *q_);
    Value<double> twice = *q_;
    for (double& x : twice.real) x *= 2;
    if (!(v < 0) || !(std::fabs(2 * value_of(potential, twice) - v) <= 1e-12 * std::fabs(v))) return;
    const double energy = value_of(kinetic, *q_) + v;
    if (!(energy < 0)) return;  // not bound
    const double eccentricity = std::min(std::fabs(1 - 2 * std::fabs(energy) / std::fabs(v)), 0.999999);
    if (eccentricity < kEccentric) return;
    const double gain = std::pow(1 - eccentricity, -1.5);
    found_.push_back(
        {Finding::kOffers,
         fmt::format("Method::TimeWarp: V is homogeneous of degree -1, and at the start U = -V is {:.3g} of "
                     "2 |E|, its "
                     "mean: an ellipse of that has an eccentricity of at least {:.3g}, whose passage is "
                     "about {:.2g} x "
                     "as short as its time at the mean; steps of equal length in s follow that",
                     -v / (2 * std::fabs(energy)), eccentricity, gain),
         "",
         {{"proposal", std::string("TimeWarp")}, {"eccentricity", eccentricity}, {"gain", gain}}});
  }

  EvolveView e_;
  EvolveRecord record_;
  const Labels& labels_;
  KnownValues values_;
  std::int64_t n_;
  double h_ = 0;
  std::optional<Value<double>> q_, p_;
  std::vector<Part> parts_;
  std::vector<double> root_;  // of the inverse masses
  std::string why_;
  Records found_;
};

}  // namespace

Records find_proposals(const Node* evolve, const Labels& labels) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  if (record.method != Method::Auto || !record.levels.empty() || !record.flows.empty() || record.timed ||
      record.linear_part || !e.row().needs_separable())
    return {};
  // A jump needs no other method. Where that rests on the numbers of H, its verdict is in the record.
  const auto proof = prove_energy(evolve);
  if (proof->quadratic) return {};
  return Proposals(evolve, labels).run();
}

}  // namespace tinyphys
