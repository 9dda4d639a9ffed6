// The Schroedinger equation on a periodic grid, i hbar dpsi/dt = (T + V) psi with T = (hbar k)^2 / 2m.
//
//   Grid grid({1024}, {40.0});                                        // points, lengths
//   Schroedinger trap(grid, 0.5 * square(grid.x(0)));                 // hbar = m = 1
//   Wave w = trap.evolve(psi0, {.t_end = 100.0, .method = Method::Spectral, .tol = 1e-12});
//
// A Hermitian H of any other form is given as what it makes of psi:
//
//   Schroedinger chain([](const Tensor& psi) { return -1.0 * (psi.roll(1, 0) + psi.roll(-1, 0)); }, {64});
//
// psi is complex128 (a real one is promoted), its last axes are those of the grid; axes before them are a batch. Everything is
// lazy and differentiable, as all else.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tinyphys/count.hpp"
#include "tinyphys/integrator.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys {

// Equally spaced points of a periodic box of 1 to 3 axes. Axis i has points[i] of them, from -lengths[i] / 2 on, in steps of
// lengths[i] / points[i].
class Grid {
 public:
  // Throws for no axis or more than 3, fewer than 2 points, a length that is not above 0 and finite, or lists of two sizes.
  Grid(std::vector<std::int64_t> points, std::vector<double> lengths, Where where = Where::current());

  std::size_t axes() const { return points_.size(); }
  const std::vector<std::int64_t>& points() const { return points_; }
  const std::vector<double>& lengths() const { return lengths_; }
  double spacing(std::size_t axis) const { return lengths_[axis] / static_cast<double>(points_[axis]); }
  double cell() const;  // the volume of a point

  // Coordinates along an axis, float64, with 1 for the other axes: [n, 1] and [1, m], which broadcast. Throws for no such axis.
  Tensor x(std::int64_t axis, Where where = Where::current()) const;
  // Wave numbers in the order of fftn, 2 pi fftfreq, in the same shape.
  Tensor k(std::int64_t axis, Where where = Where::current()) const;
  // The sum of k^2 over all axes.
  Tensor k_squared(Where where = Where::current()) const;
  double largest_k_squared() const;

 private:
  friend class Schroedinger;
  Grid() = default;

  std::vector<std::int64_t> points_;
  std::vector<double> lengths_;
};

struct SchroedingerOptions {
  double mass = 1.0, hbar = 1.0;
};

struct HamiltonianOptions {
  double hbar = 1.0;
};

namespace detail {
struct HamiltonianRecord;
}

// A state at a time; both with a leading axis where states on the way were asked for.
struct Wave {
  Tensor psi, t;
};

struct WaveOptions {
  // The step of a splitting, finite, negative for backwards. Method::Spectral: of save_every only.
  double dt = std::numeric_limits<double>::quiet_NaN();
  Count steps = std::numeric_limits<std::int64_t>::min();
  // In place of steps: the time that passes. A splitting takes steps of at most dt, of one length.
  std::optional<double> t_end = {};
  // Default: steps of the integrator, exp(-i c dt V / hbar) for its kicks and exp(-i c dt T / hbar) by transforms for its
  // drifts (split-step Fourier, Feit, Fleck and Steiger 1982); LeapfrogKDK is Strang's splitting. Spectral: one Chebyshev
  // series for all of the time (Tal-Ezer and Kosloff 1984), whatever dt: exact to tol.
  Method method = Method::Default;
  Integrator integrator = Integrator::LeapfrogKDK;
  // Method::Spectral: where the series ends, relative to |psi|.
  double tol = 1e-13;
  // Also the states after 0, save_every, 2 save_every, ... steps, along a leading axis. Divides steps.
  std::optional<Count> save_every = {};
  // Imaginary time: exp(-tau H / hbar) in place of exp(-i t H / hbar), and norm 1 at the end (of a splitting: after each step).
  // What has the least energy grows over the rest.
  bool imaginary = false;
  // Method::Spectral: energies that all of H lies between, least and largest, in place of those of the grid and V, or of
  // an H given as a function those by Lanczos (Zhou and Li 2011). Wrong ones are found out after the run, by the norm.
  std::optional<std::pair<double, double>> spectrum = {};
};

class Schroedinger {
 public:
  // V: real, of the grid's shape or broadcasting to it. Its values are looked at when the system is made. Throws for a complex V
  // (absorbing: not Hermitian), one that does not broadcast, NaN or infinity in it (with the point), a mass or hbar
  // that is not above 0 and finite.
  Schroedinger(Grid grid, const Arg& potential, SchroedingerOptions options = {});

  // H as a function psi -> H psi, complex128 of the given shape both. It is called once, with a symbol, and may use other tensors,
  // to which gradients go. The norm is that of the grid's points; with a shape alone their volume is 1, and the axes
  // of grid() are 1 apart.
  //
  // H must be linear, H (a f + b g) = a H f + b H g for complex a and b, and Hermitian, <f|H g> = <H f|g>. Both are shown by the
  // structure of H (a sum of products of diagonals, transforms and shifts whose adjoints are among them), else by
  // identities at random points of two prime fields, else by numbers: for three random psi to 1e-13 of |H psi|, element by
  // element, which explain() says and which is no proof. H is applied once to numbers in any case.
  //
  // Throws where H is none of these (|psi|^2 psi, real(psi), a source, an absorbing potential), with the expression and its
  // line; where what it returns has another shape or dtype, or is NaN or infinite (with the point); for an empty shape, hbar not
  // above 0 and finite; and where only numbers could decide and H depends on an argument of a function that is being
  // traced.
  using Hamiltonian = std::function<Tensor(const Tensor& psi)>;
  Schroedinger(const Hamiltonian& h, Grid grid, HamiltonianOptions options = {},
               Where where = Where::current());
  Schroedinger(const Hamiltonian& h, Shape shape, HamiltonianOptions options = {},
               Where where = Where::current());

  const Grid& grid() const { return grid_; }
  // Empty where H is given as a function.
  const Tensor& potential() const { return potential_; }
  // Energies that all of H lies between, by the largest k^2 and the values of V. Throws for an H that is a function.
  std::pair<double, double> bounds(Where where = Where::current()) const;
  // H psi. Throws as evolve does for psi.
  Tensor apply(const Tensor& psi, Where where = Where::current()) const;
  // psi after t: lazy. Throws when psi's last axes are not the grid's, its dtype is no number, dt, steps or t_end is
  // missing, not finite or both are given, save_every does not divide steps, tol is not in (1e-15, 1), the integrator has
  // parts other than kicks and drifts (a flow: that is Method::Spectral), the method is not one of Default, Loop and Spectral,
  // the spectrum is not two ascending numbers, or H is given as a function, of which no T and V are known, and the method is not
  // Spectral. When it runs, Spectral throws where the norm is not kept to what tol and rounding allow: then
  // the spectrum that was given does not hold H's.
  Wave evolve(const Tensor& psi, const WaveOptions& options, Where where = Where::current()) const;

  // <psi|H|psi> / <psi|psi>, float64, a scalar or one for each member of the batch. This and what else divides by the norm throws
  // when it is computed and psi is 0 or not finite.
  Tensor energy(const Tensor& psi, Where where = Where::current()) const;
  // sqrt(sum |psi|^2 cell).
  Tensor norm(const Tensor& psi, Where where = Where::current()) const;
  // <psi|f|psi> / <psi|psi> of a real f(x), which broadcasts to the grid.
  Tensor expectation(const Tensor& psi, const Arg& f, Where where = Where::current()) const;
  // psi / norm(psi).
  Tensor normalised(const Tensor& psi, Where where = Where::current()) const;

 private:
  Tensor checked(const Tensor& psi, std::string_view call, const Where& where) const;
  std::vector<std::int64_t> axes_of(const Tensor& psi) const;
  Tensor total(const Tensor& density) const;
  Tensor over_grid(const Tensor& scalars) const;
  Wave by_steps(const Tensor& psi, const WaveOptions& o, double dt, std::int64_t steps, std::int64_t every,
                const Where& where) const;
  Wave by_series(const Tensor& psi, const WaveOptions& o, double time, std::int64_t pieces,
                 const Where& where) const;
  Tensor applied(const Tensor& psi) const;

  Grid grid_;
  SchroedingerOptions options_;
  Tensor potential_, kinetic_;  // over x, over k
  double least_v_ = 0.0, largest_v_ = 0.0;
  std::shared_ptr<const detail::HamiltonianRecord> hamiltonian_;  // where H is given as a function
};

}  // namespace tinyphys
