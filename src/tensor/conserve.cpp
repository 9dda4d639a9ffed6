#include "tensor/conserve.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "derive/complex.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys::front {
namespace {

constexpr std::string_view kCall = "evolve";
// As many as an energy, a momentum and an angular momentum in space have: a system of this size is solved in each step.
constexpr std::size_t kMostInvariants = 7;
constexpr const char* kAxisNames[] = {"x", "y", "z"};

class Keeping {
 public:
  Keeping(const Conserve& conserve, const KeptBy& by, Records& told)
      : conserve_(conserve), by_(by), told_(told), rank_(by.q->shape().size() - by.members.size()) {}

  std::vector<KeptValue> run(const Where& where) {
    if (conserve_.invariants().empty()) fail(kCall, "conserve: the list of invariants is empty", where);
    for (const Invariant& i : conserve_.invariants()) {
      if (i.is_function()) {
        function(i);
        continue;
      }
      switch (i.what()) {
        case Conserved::Energy: energy(i.where()); break;
        case Conserved::Momentum: momentum(i.where()); break;
        case Conserved::AngularMomentum: angular_momentum(i.where()); break;
        case Conserved::Auto: proven(i.where()); break;
        default:
          fail(
              kCall,
              "conserve: there is no invariant number " + std::to_string(static_cast<std::int64_t>(i.what())),
              i.where());
      }
    }
    if (out_.size() > kMostInvariants)
      fail(kCall,
           fmt::format("conserve: {} invariants are too many, at most {} can be kept at once: {}",
                       out_.size(), kMostInvariants, listed(out_)),
           where);
    return std::move(out_);
  }

 private:
  // Asked for twice, it is kept once.
  void keep(std::string name, UOp value) {
    const auto same = [&](const KeptValue& v) { return v.value == value; };
    if (std::none_of(out_.begin(), out_.end(), same)) out_.push_back({std::move(name), std::move(value)});
  }
  std::string shape_of_q() const {
    return "q is " + describe(by_.q.get()) +
           (by_.members.empty() ? "" : fmt::format(", of which {} are batch_axes", by_.members.size()));
  }

  void energy(const Where& where) {
    if (by_.energies.empty()) fail(kCall, "conserve: the system is a force, it has no energy to keep", where);
    if (by_.timed)
      fail(kCall, "conserve: H depends on the time, its energy is no invariant of the motion", where);
    UOp sum = by_.energies[0];
    for (const UOp& e : by_.energies.subspan(1)) sum = add(sum, e);
    keep("energy", sum);
  }

  // Of [bodies, D], or [bodies] for D = 1.
  std::int64_t dimensions() const { return rank_ == 2 ? by_.q->shape().back() : 1; }
  std::int64_t body_axis() const { return static_cast<std::int64_t>(by_.members.size()); }
  UOp component(const UOp& x, std::int64_t d) const { return index_axis(x, body_axis() + 1, d); }
  UOp over_bodies(const UOp& x) const {
    const std::int64_t axis = body_axis();
    return sum(x, std::span(&axis, 1));
  }

  void momentum_along(std::int64_t d) {
    if (rank_ == 1)
      keep("momentum", over_bodies(by_.p));
    else
      keep(std::string("momentum ") + kAxisNames[d], over_bodies(component(by_.p, d)));
  }
  void momentum(const Where& where) {
    if (rank_ == 0 || rank_ > 2 || dimensions() > 3 || dimensions() < 1)
      fail(kCall,
           "conserve: Momentum needs q of shape [bodies, D] with D = 1, 2 or 3, or [bodies]; " + shape_of_q(),
           where);
    for (std::int64_t d = 0; d < dimensions(); ++d) momentum_along(d);
  }

  // About this axis: 2 in the plane.
  void angular_about(std::int64_t axis) {
    const std::int64_t a = (axis + 1) % 3, b = (axis + 2) % 3;
    keep(std::string("angular momentum ") + kAxisNames[axis],
         over_bodies(sub(mul(component(by_.q, a), component(by_.p, b)),
                         mul(component(by_.q, b), component(by_.p, a)))));
  }
  void angular_momentum(const Where& where) {
    if (rank_ != 2 || (dimensions() != 2 && dimensions() != 3))
      fail(kCall,
           "conserve: AngularMomentum needs q of shape [bodies, 2] or [bodies, 3]; " + shape_of_q() +
               (rank_ == 1 && (by_.q->shape().back() == 2 || by_.q->shape().back() == 3)
                    ? fmt::format("; one body is of shape [1, {}]", by_.q->shape().back())
                    : ""),
           where);
    for (std::int64_t axis = dimensions() == 2 ? 2 : 0; axis < 3; ++axis) angular_about(axis);
  }

  void proven(const Where& where) {
    if (by_.energies.empty())
      fail(kCall, "conserve: the system is a force, of which nothing is proven: name what it keeps", where);
    const std::vector<ProvenInvariant> found = by_.proven();
    if (found.empty())
      fail(kCall, "conserve: nothing is proven to be an invariant of this H (see explain)", where);
    for (const ProvenInvariant& i : found) {
      switch (i.what) {
        case ProvenInvariant::Kind::kEnergy: energy(where); break;
        case ProvenInvariant::Kind::kMomentum: momentum_along(i.axis); break;
        case ProvenInvariant::Kind::kAngularMomentum: angular_about(i.axis); break;
      }
      Record r{Finding::kProved, i.how};
      if (i.error_probability > 0) r.numbers = {{"error_probability", i.error_probability}};
      told_.push_back(std::move(r));
    }
  }

  void function(const Invariant& i) {
    const std::string which = i.name().empty() ? "an invariant" : "the invariant \"" + i.name() + "\"";
    if (!i.function()) fail(kCall, "conserve: " + which + " is an empty function", i.where());
    const UOp v = lower_complex(value(i.function()(tensor(by_.q), tensor(by_.p)), kCall, i.where()));
    const auto shape = v->shape();
    if (v->dtype != DType::kFloat64 ||
        !std::equal(shape.begin(), shape.end(), by_.members.begin(), by_.members.end()))
      fail(kCall,
           "conserve: " + which + " must return a float64 " +
               (by_.members.empty() ? "scalar" : "number for each member, " + shape_text(by_.members)) +
               "; it returns " + describe(v.get()),
           i.where());
    keep(i.name().empty() ? fmt::format("g{}", out_.size()) : i.name(), v);
  }

  const Conserve& conserve_;
  const KeptBy& by_;
  Records& told_;
  std::size_t rank_;  // of q, without the members
  std::vector<KeptValue> out_;
};

}  // namespace

std::vector<KeptValue> kept_values(const Conserve& conserve, const KeptBy& by, Records& told,
                                   const Where& where) {
  return Keeping(conserve, by, told).run(where);
}

UOp checked_metric(const Conserve& conserve, const UOp& q, const Where&) {
  if (!conserve.masses()) return {};
  const Arg& m = *conserve.masses();
  if (m.is_number()) {
    const double v = m.as_double();
    if (m.kind() == Arg::Kind::kComplex)
      fail(kCall, "conserve: the metric is complex, it must be real", m.where());
    if (!std::isfinite(v) || v <= 0)
      fail(kCall, "conserve: the metric is " + number_text(v) + ", it must be above 0 and finite", m.where());
    return constant(v);
  }
  const UOp u = value(m.tensor(), kCall, m.where());
  if (u->dtype != DType::kFloat64)
    fail(kCall, "conserve: the metric must be float64; it is " + describe(u.get()), m.where());
  const auto from = u->shape(), to = q->shape();
  bool fits = from.size() <= to.size();
  for (std::size_t i = 1; fits && i <= from.size(); ++i)
    fits = from[from.size() - i] == 1 || from[from.size() - i] == to[to.size() - i];
  if (!fits)
    fail(kCall,
         "conserve: the metric, " + describe(u.get()) + ", does not broadcast to q, " + describe(q.get()),
         m.where());
  if (u->size() == 0) return u;
  LocationScope scope(m.where());
  const UOp flat = reshape(u, Dims{u->size()}), zero = sub(flat, flat);  // NaN where it is not finite
  const UOp good =
      make(Op::AND, {compare(Op::LT, zeros_like(flat), flat), compare(Op::EQ, zero, zeros_like(flat))});
  const std::int64_t axis = 0;
  const UOp bad = sum(cast(unary(Op::NOT, good), DType::kInt64), std::span(&axis, 1));
  return make(Op::CHECK, {u, compare(Op::EQ, bad, constant_int(0))},
              {static_cast<std::int64_t>(CheckKind::kMetricUsable)});
}

std::string listed(std::span<const KeptValue> values) {
  std::string text;
  for (std::size_t i = 0; i < values.size(); ++i)
    text += (i == 0 ? "" : i + 1 == values.size() ? " and " : ", ") + values[i].name;
  return text;
}

}  // namespace tinyphys::front
