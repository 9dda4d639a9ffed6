#include "support/integrators.hpp"

#include <algorithm>
#include <deque>
#include <stdexcept>

namespace tinyphys {
namespace {

Substep kick(double c) { return {Part::kKick, c}; }
Substep drift(double c) { return {Part::kDrift, c}; }

// Leapfrog steps of w h one after the other; the kicks between two are one kick.
std::vector<Substep> leapfrogs(std::span<const double> w) {
  std::vector<Substep> s{kick(0.5 * w[0])};
  for (std::size_t i = 0; i < w.size(); ++i) {
    s.push_back(drift(w[i]));
    s.push_back(kick(0.5 * (i + 1 < w.size() ? w[i] + w[i + 1] : w[i])));
  }
  return s;
}

// w_m, ..., w_1, w_0, w_1, ..., w_m with w_0 = 1 - 2 (w_1 + ... + w_m), from w_m down to w_1.
std::vector<Substep> symmetric_leapfrogs(std::vector<double> w) {
  double rest = 1;
  for (double x : w) rest -= 2 * x;
  const std::vector<double> back(w.rbegin(), w.rend());
  w.push_back(rest);
  w.insert(w.end(), back.begin(), back.end());
  return leapfrogs(w);
}

// S6 of Blanes and Moan (J. Comput. Appl. Math. 142, 2002): kicks a, drifts b.
std::vector<Substep> blanes_moan_4() {
  constexpr double a1 = 0.0792036964311957, a2 = 0.353172906049774, a3 = -0.0420650803577195;
  constexpr double b1 = 0.209515106613362, b2 = -0.143851773179818;
  constexpr double a4 = 1 - 2 * (a1 + a2 + a3), b3 = 0.5 - (b1 + b2);
  return {kick(a1),  drift(b1), kick(a2),  drift(b2), kick(a3),  drift(b3), kick(a4),
          drift(b3), kick(a3),  drift(b2), kick(a2),  drift(b1), kick(a1)};
}

// In the order of the enum.
std::deque<IntegratorRow> make_table() {
  return {
      {"LeapfrogKDK", 2, {kick(0.5), drift(1), kick(0.5)}},
      {"LeapfrogDKD", 2, {drift(0.5), kick(1), drift(0.5)}},
      {"Exact", 0, {{Part::kFlow, 1}}},
      {"ImplicitMidpoint", 2, {{Part::kSolve, 1}}},
      // 1 / (2 - 2^(1/3))
      {"Yoshida4", 4, symmetric_leapfrogs({1.3512071919596576340476878})},
      // Digits of both from Hairer, Lubich and Wanner, Geometric Numerical Integration, V.3.
      {"Yoshida6", 6,
       symmetric_leapfrogs(
           {0.78451361047755726381949763, 0.23557321335935813368479318, -1.17767998417887100694641568})},
      {"Yoshida8", 8,
       symmetric_leapfrogs({0.74167036435061295344822780, -0.40910082580003159399730010,
                            0.19075471029623837995387626, -0.57386247111608226665638773,
                            0.29906418130365592384446354, 0.33462491824529818378495798,
                            0.31529309239676659663205666})},
      {"BlanesMoan4", 4, blanes_moan_4()},
  };
}

// Rows stay where they are when others are added; leaked, as evolutions may be held by static objects.
std::deque<IntegratorRow>& table() {
  static auto* t = new std::deque<IntegratorRow>(make_table());
  return *t;
}

}  // namespace

bool IntegratorRow::symmetric() const {
  return std::equal(
      substeps.begin(), substeps.end(), substeps.rbegin(),
      [](const Substep& a, const Substep& b) { return a.part == b.part && a.coefficient == b.coefficient; });
}

bool is_integrator(Integrator integrator) { return static_cast<std::uint64_t>(integrator) < table().size(); }
const IntegratorRow& row_of(Integrator integrator) {
  if (!is_integrator(integrator)) throw std::out_of_range("no such integrator");
  return table()[static_cast<std::size_t>(integrator)];
}

std::string integrator_names(bool (*wanted)(const IntegratorRow&), std::string_view last_word) {
  std::vector<std::string_view> names;
  for (const IntegratorRow& r : table())
    if (wanted(r)) names.push_back(r.name);
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0                  ? ""
             : i + 1 == names.size() ? " " + std::string(last_word) + " "
                                     : ", ") +
            std::string(names[i]);
  return text;
}

Integrator add_integrator(IntegratorRow row) {
  table().push_back(std::move(row));
  return static_cast<Integrator>(table().size() - 1);
}

}  // namespace tinyphys
