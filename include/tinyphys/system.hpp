// Hamiltonian systems: write the energy, get the motion.
//
//   System sys([&](Tensor q, Tensor p) { return 0.5 * (p * p / m).sum() + 0.5 * k * (q * q).sum(); });
//   State s = sys.evolve({q0, p0}, {.dt = 1e-3, .steps = 1'000'000'000});
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "tinyphys/structure.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys {

// Coordinates and momenta: float64, of one shape.
struct State {
  Tensor q, p;
};

template <> struct Structure<State> {
  static void flatten(const State& s, std::vector<Tensor>& to) { to.insert(to.end(), {s.q, s.p}); }
  static State rebuild(const State&, const Tensor*& next) {
    State s{next[0], next[1]};
    next += 2;
    return s;
  }
};

// How a step follows from H; h is dt.
//   LeapfrogKDK       p -= h/2 dH/dq, q += h dH/dp, p -= h/2 dH/dq: order 2, symplectic; H = T(p) + V(q)
//   LeapfrogDKD       q += h/2 dH/dp, p -= h dH/dq, q += h/2 dH/dp: order 2, symplectic; H = T(p) + V(q)
//   Exact             the flow itself, for H quadratic in (q, p)
//   ImplicitMidpoint  z += h J dH/dz((z + z') / 2): order 2, symplectic; any H
enum class Integrator : std::int64_t { LeapfrogKDK, LeapfrogDKD, Exact, ImplicitMidpoint };

// What the compiler may do.
//   Default  replace the loop by what gives the same result up to rounding
//   Loop     run the steps one by one
enum class Method : std::int64_t { Default, Loop };

// How far a long run is.
struct Progress {
  double fraction = 0;  // done / total
  std::int64_t done = 0, total = 0;
  double elapsed_seconds = 0;
};

struct EvolveOptions {
  // A finite number, or a float64 scalar tensor (then derivatives by it exist). May be negative.
  Arg dt = std::numeric_limits<double>::quiet_NaN();
  std::int64_t steps = 0;
  Integrator integrator = Integrator::LeapfrogKDK;
  Method method = Method::Default;
  // Called now and then while the motion is computed, on the thread that asked for it. Not part of the value:
  // the same evolution asked for again is the same value, and the last callback given counts.
  std::function<void(const Progress&)> progress = {};
};

class System {
 public:
  // H(q, p): a float64 scalar, the energy. It is called with symbols and may do anything with them but read
  // their values; q or p may be ignored. What it captures (masses, couplings) is data of the system.
  explicit System(std::function<Tensor(const Tensor& q, const Tensor& p)> h);

  // The state after `steps` steps: lazy, one node however many steps. Throws when q or p is not float64,
  // their shapes differ, H is not a float64 scalar, dt is missing or not finite, steps < 0, or the integrator
  // is not defined for H.
  State evolve(const State& s, const EvolveOptions& options, Where where = Where::current()) const;

  // H(q, p), a scalar. Throws as evolve does for the state and H.
  Tensor energy(const State& s, Where where = Where::current()) const;

 private:
  std::function<Tensor(const Tensor&, const Tensor&)> h_;
};

}  // namespace tinyphys
