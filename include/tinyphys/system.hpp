// Hamiltonian systems: write the energy, get the motion.
//
//   System sys([&](Tensor q, Tensor p) { return 0.5 * (p * p / m).sum() + 0.5 * k * (q * q).sum(); });
//   State s = sys.evolve({q0, p0}, {.dt = 1e-3, .steps = 1'000'000'000});
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tinyphys/conserve.hpp"
#include "tinyphys/count.hpp"
#include "tinyphys/integrator.hpp"
#include "tinyphys/reversible.hpp"
#include "tinyphys/structure.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys {

// Coordinates and momenta: float64, of one shape; and the time, a float64 scalar.
struct State {
  Tensor q, p;
  Tensor t = Tensor::zeros({});
};

template <> struct Structure<State> {
  static void flatten(const State& s, std::vector<Tensor>& to) { to.insert(to.end(), {s.q, s.p, s.t}); }
  static State rebuild(const State&, const Tensor*& next) {
    State s{next[0], next[1], next[2]};
    next += 3;
    return s;
  }
};

// How far a long run is.
struct Progress {
  double fraction = 0;  // done / total
  std::int64_t done = 0, total = 0;
  double elapsed_seconds = 0;
};

// How many steps within dt a named term of H is given.
struct Level {
  std::string term;
  Count steps = 0;
};

// Multiple time steps (RESPA; Tuckerman, Berne and Martyna 1992; Grubmueller et al. 1991): .levels = {{"slow", 1},
// {"fast", 10}} kicks by the term "slow" once in each dt, and by "fast" ten times, dt / 10 apart.
class Levels {
 public:
  Levels() = default;  // none: one step for all of H
  Levels(std::initializer_list<Level> list) : list_(list), given_(true) {}
  Levels(std::vector<Level> list) : list_(std::move(list)), given_(true) {}
  const std::vector<Level>& list() const { return list_; }
  bool given() const { return given_; }

 private:
  std::vector<Level> list_;
  bool given_ = false;
};

// How much time passes in a step of Method::TimeWarp, for each unit of ds: g(q) or g(q, p), a float64 scalar, or one for each
// member of an ensemble.
class WarpFactor {
 public:
  WarpFactor() = default;  // none
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, WarpFactor> &&
           (std::is_invocable_r_v<Tensor, const F&, const Tensor&> ||
            std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&>)) WarpFactor(F f) {
    if constexpr (std::is_invocable_r_v<Tensor, const F&, const Tensor&>) {
      std::function<Tensor(const Tensor&)> g(std::move(f));
      if (g) f_ = [g = std::move(g)](const Tensor& q, const Tensor&) { return g(q); };
    } else {
      f_ = std::move(f);
      takes_p_ = true;
    }
  }
  explicit operator bool() const { return static_cast<bool>(f_); }
  bool takes_p() const { return takes_p_; }
  Tensor operator()(const Tensor& q, const Tensor& p) const { return f_(q, p); }

 private:
  std::function<Tensor(const Tensor& q, const Tensor& p)> f_;
  bool takes_p_ = false;
};

struct EvolveOptions {
  // A finite number, or a float64 scalar tensor (then derivatives by it exist). May be negative.
  Arg dt = std::numeric_limits<double>::quiet_NaN();
  Count steps = std::numeric_limits<std::int64_t>::min();  // 1'000'000 or 1e6; must be given
  Integrator integrator = Integrator::LeapfrogKDK;
  Method method = Method::Default;
  // Multiple time steps, with LeapfrogKDK. The numbers count the steps within dt, whatever the order of the list (as in
  // OpenMM's MTSIntegrator): the smallest is 1, each is a multiple of the next smaller one, and terms with one number are
  // one level. A level of n steps is kicked by dH/dq of its terms, at the ends of each dt / n; the drift, by dH/dp of all of
  // H, is that of the innermost level. A term of q is in one level; one of p alone is in the innermost or in none. No term
  // may join q and p. Where the terms of the innermost level are quadratic its steps may be taken as one map, the same but for
  // rounding; explain() says so.
  Levels levels = {};
  Impulse impulse = Impulse::Auto;  // of Method::Split
  // The relative error of q and p that is allowed; without it that of the scope (tolerance.hpp). Nothing uses it yet.
  std::optional<double> tol = {};
  // Also the states on the way: q and p then have a leading axis, and t is a vector, of the states after 0, save_every,
  // 2 save_every, ... steps. Divides steps. Each is what evolve gives of the one before.
  std::optional<Count> save_every = {};
  // Called now and then while the motion is computed, on the thread that asked for it. Not part of the value:
  // the same evolution asked for again is the same value, and the last callback given counts.
  std::function<void(const Progress&)> progress = {};
  // Invariants that each step is projected on (conserve.hpp). For every integrator that has a loop of steps; the steps are
  // taken one by one. A projected method is neither symplectic nor reversible.
  Conserve conserve = {};
  // Method::TimeWarp: the evolution ends at this time, a number or a float64 scalar, reached to 1e-13 relative; `steps` is then
  // the most steps that may be taken. Without it so many steps are taken, and the time is where they lead.
  std::optional<Arg> t_end = {};
  // Method::TimeWarp: the states at these times, which do not descend and begin at the time of the state or later, each reached
  // as t_end is and in its place: q and p have a leading axis, and t is a vector, as with save_every. The motion goes on from
  // its own steps, not from where it was looked at. `steps` is the most that may be taken in all.
  std::vector<double> save_at = {};
  // Method::TimeWarp: the time that passes in a step of ds is g ds, with g(q) or g(q, p) above 0. Without it g is 1 / U.
  WarpFactor g = {};
  // How a gradient gets at the states on the way; Exact changes the motion by rounding, and needs a range.
  Reversible reversible = Reversible::Auto;
  StateRange range = {};  // for Reversible::Exact
};

struct SystemOptions {
  // An ensemble: the first so many axes of q and p are of its members, and H returns an energy for each, of the shape of
  // those axes, which may depend on the state of its own member alone. What H captures may differ from member to member.
  int batch_axes = 0;
};

// One of the terms that H is the sum of.
struct EnergyTerm {
  std::string name;
  std::function<Tensor(const Tensor& q, const Tensor& p)> h;
};

namespace detail {
template <class F>
constexpr bool kIsEnergy =
    std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&> ||
    std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&, const Tensor&>;
template <class F>
constexpr bool kIsForce = std::is_invocable_r_v<Tensor, const F&, const Tensor&> ||
                          std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&>;
}  // namespace detail

class System {
 public:
  using Energy = std::function<Tensor(const Tensor& q, const Tensor& p)>;
  using TimedEnergy = std::function<Tensor(const Tensor& q, const Tensor& p, const Tensor& t)>;

  // H(q, p) or H(q, p, t): a float64 scalar, the energy. It is called with symbols and may do anything with them but
  // read their values; q, p or t may be ignored. What it captures (masses, couplings) is data of the system.
  // Throws for an empty std::function.
  template <class F>
  requires std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&>
  explicit System(F h, Where where = Where::current())
      : System(std::vector<EnergyTerm>{{"", Energy(std::move(h))}}, SystemOptions{}, where) {}
  template <class F>
  requires detail::kIsEnergy<F> System(F h, const SystemOptions& options, Where where = Where::current())
      : System(std::move(h), where) {
    options_ = options;
    check(where);
  }
  template <class F>
  requires std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&, const Tensor&>
  explicit System(F h, Where where = Where::current()) : timed_(std::move(h)) { check(where); }
  // Anything else is told so in one line.
  template <class F>
  requires(!detail::kIsEnergy<F> && !std::is_same_v<F, System>) explicit System(F, Where = Where::current()) {
    static_assert(detail::kIsEnergy<F>,
                  "System: H must take (q, p) or (q, p, t), each a Tensor, and return a Tensor");
  }
  // H as the sum of named terms: System({{"fast", Hf}, {"slow", Hs}}). Throws when two have one name.
  explicit System(std::vector<EnergyTerm> terms, Where where = Where::current())
      : System(std::move(terms), SystemOptions{}, where) {}
  System(std::vector<EnergyTerm> terms, const SystemOptions& options, Where where = Where::current());

  // Where no energy is at hand: dq/dt = p / mass, dp/dt = f, with a force f(q) or f(q, t) of q's shape, float64. The mass
  // is a number, or a tensor that broadcasts to q. For any integrator but Exact. Throws for an empty std::function and
  // for a mass that is 0 or not finite.
  template <class F>
  requires detail::kIsForce<F>
  static System from_force(F f, const Arg& mass) {
    if constexpr (std::is_invocable_r_v<Tensor, const F&, const Tensor&>) {
      std::function<Tensor(const Tensor&)> g(std::move(f));
      Force force;
      if (g) force = [g = std::move(g)](const Tensor& q, const Tensor&) { return g(q); };
      return System(std::move(force), mass);
    } else {
      return System(Force(std::move(f)), mass);
    }
  }

  // The state after `steps` steps: lazy, one node however many steps; its time is s.t + steps dt. Throws when q or p
  // is not float64, their shapes differ, t is no float64 scalar, H is not a float64 scalar (with batch_axes: not of the
  // shape of the members, or not proven to leave them independent of each other), dt is missing or not
  // finite, steps < 0, save_every is no divisor of it, tol is not in (0, 1], the integrator or the method is unknown, the
  // levels are no levels of H's terms, or the integrator or the method is not defined for H; with Reversible::Exact when there is no range, or a step is no sequence of shears; of a
  // force, when it is not as q is, or the mass does not broadcast to q. With
  // conserve, when an invariant is no float64 scalar, is not defined for the shape of q, is not the motion's (Energy of an H of
  // the time or of a force), or the integrator has no steps. With Method::TimeWarp see integrator.hpp.
  State evolve(const State& s, const EvolveOptions& options, Where where = Where::current()) const;

  // H(q, p, t), a scalar, or one for each member. Throws as evolve does for the state and H, and for a system that is a
  // force.
  Tensor energy(const State& s, Where where = Where::current()) const;

 private:
  using Force = std::function<Tensor(const Tensor& q, const Tensor& t)>;

  System(Force force, const Arg& mass);
  void check(Where where) const;
  State time_warp(const State& s, const EvolveOptions& options, Where where) const;
  // `held`: values of the invariants to be kept, where they are not those of s.
  State evolve_holding(const State& s, const EvolveOptions& options, const std::vector<Tensor>* held,
                       Where where) const;
  State trajectory(const State& s, const EvolveOptions& options, const std::vector<Tensor>* held,
                   Where where) const;
  // The energies of the terms.
  std::vector<Tensor> terms_at(const Tensor& q, const Tensor& p, const Tensor& t) const;

  std::vector<EnergyTerm> terms_;
  TimedEnergy timed_;  // in place of terms_
  SystemOptions options_;
  Force force_;  // in place of an energy
  Tensor mass_;  // with force_
};

}  // namespace tinyphys
