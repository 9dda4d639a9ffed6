// What an evolution is held to: invariants of the motion, restored after every step by projection.
//
//   sys.evolve(s, {.dt = h, .steps = n, .conserve = {Conserved::Energy, Conserved::AngularMomentum}});
//   sys.evolve(s, {.dt = h, .steps = n, .conserve = Conserve({{"Jacobi", jacobi}}).once()});
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tinyphys/tensor.hpp"

namespace tinyphys {

// Invariants that have a name. Shapes are those of q without the batch_axes.
//   Energy           H
//   Momentum         the sum of p over the bodies, a number for each of D axes; q of shape [bodies, D], or [bodies] for D = 1
//   AngularMomentum  the sum of q x p over the bodies; q of shape [bodies, 2] (one number) or [bodies, 3] (three)
//   Auto             those of the above (with each component by itself) that are proven of H; an error where none is
enum class Conserved : std::int64_t { Energy, Momentum, AngularMomentum, Auto };

// One thing to be kept: a name of the above, or a function of (q, p) that returns a float64 scalar (with batch_axes: one for
// each member, which depends on the state of its own member alone). That it is an invariant of the motion is its author's word.
class Invariant {
 public:
  using Function = std::function<Tensor(const Tensor& q, const Tensor& p)>;

  Invariant(Conserved what, Where where = Where::current()) : what_(what), where_(where) {}
  template <class F>
  requires std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&> Invariant(
      F f, Where where = Where::current())
      : Invariant("", std::move(f), where) {}
  template <class F>
  requires std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&> Invariant(
      std::string name, F f, Where where = Where::current())
      : name_(std::move(name)), function_(std::move(f)), is_function_(true), where_(where) {}

  bool is_function() const { return is_function_; }
  Conserved what() const { return what_; }
  const std::string& name() const { return name_; }
  const Function& function() const { return function_; }
  const Where& where() const { return where_; }

 private:
  Conserved what_ = Conserved::Energy;
  std::string name_;
  Function function_;
  bool is_function_ = false;
  Where where_;
};

// Projection onto the manifold on which the invariants g have the values g0 that they had at the start (Hairer, Lubich and
// Wanner, Geometric Numerical Integration, IV.4): after each step, z = (q, p) moves by Newton's method along the gradients,
//
//   z -= M^-1 G^T (G M^-1 G^T)^-1 (g(z) - g0),   G = dg/dz,
//
// at most five times, until g - g0 is within 2 eps times the sum of the |terms| of g (eps = 2^-53) or no longer falls. An
// invariant whose gradient is 0, or is that of the others, is left alone in that step.
class Conserve {
 public:
  Conserve() = default;  // nothing: no projection
  Conserve(std::initializer_list<Invariant> list) : invariants_(list), asked_(true) {}
  Conserve(std::vector<Invariant> list) : invariants_(std::move(list)), asked_(true) {}

  // One Newton iteration a step, always: cheaper, and off by the square of what a step loses.
  Conserve once() const {
    Conserve c = *this;
    c.once_ = true;
    return c;
  }
  // The symmetric projection (Hairer, Lubich and Wanner, Geometric Numerical Integration, V.4.1): the state is moved off the
  // invariants before the step Phi and back on to them after it, by the same multipliers x,
  //
  //   z' = Phi(z + M^-1 G(z)^T x) + M^-1 G(z')^T x,   g(z') = g0,
  //
  // so that steps of -dt take it back, up to rounding. An iteration for z' and x takes the step anew; one that does not come to
  // rest within 50 is an error. For integrators of kicks and drifts; not with once().
  Conserve symmetric() const {
    Conserve c = *this;
    c.symmetric_ = true;
    return c;
  }
  // M: moves are the smallest in the norm sum m |dq|^2 + |dp|^2 / m; without it m = 1. A positive number, or a float64
  // tensor that broadcasts to q.
  Conserve metric(const Arg& masses) const {
    Conserve c = *this;
    c.metric_.assign(1, masses);
    return c;
  }

  bool asked() const { return asked_; }
  const std::vector<Invariant>& invariants() const { return invariants_; }
  bool is_once() const { return once_; }
  bool is_symmetric() const { return symmetric_; }
  const Arg* masses() const { return metric_.empty() ? nullptr : &metric_[0]; }

 private:
  std::vector<Invariant> invariants_;
  bool asked_ = false, once_ = false, symmetric_ = false;
  std::vector<Arg> metric_;  // one or none
};

}  // namespace tinyphys
