// Energies of a Schroedinger operator on a grid: its lowest eigenstates, and its density of states. An H that is a function is
// refused: its bounds are estimates, and it may be complex.
//
//   Schroedinger trap(grid, V);
//   Eigenstates s = eigenstates(trap, 10);                                     // energies, states, residuals
//   Tensor rho = density_of_states(trap, Tensor::linspace(0.0, 50.0, 400));    // states per unit of energy
#pragma once

#include <cstdint>

#include "tinyphys/schroedinger.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys {

struct EigenstatesOptions {
  // Largest |H psi - E psi| of a state of norm 1, relative to half the width of the spectrum. An energy is off by at most its
  // residual, and by its square over the distance to the next level where that is less.
  double tol = 1e-10;
  std::int64_t max_iterations = 100;
  std::uint64_t seed = 1;  // of the states that the search begins with
};

struct Eigenstates {
  Tensor energy;    // float64 [count], ascending
  Tensor psi;       // complex128 [count, grid...], real, orthonormal, the largest value of each above 0
  Tensor residual;  // float64 [count]: |H psi - E psi| as computed
  std::int64_t iterations = 0;  // of the filter; 0 where the matrix was diagonalised
};

// The `count` states of least energy: computed at once. On at most 512 points the matrix of H is diagonalised (LAPACK), else by
// subspace iteration with a Chebyshev filter (Zhou, Saad, Tiago and Chelikowsky, Phys. Rev. E 74, 066704 (2006)), in count and some
// more waves of memory. Levels that are equal come as often as they are. Throws for a count below 1 or above half the points
// (all of them where the matrix is diagonalised), a tol that is not in [1e-14, 1e-2], max_iterations below 1, and where those are
// not enough.
Eigenstates eigenstates(const Schroedinger& system, std::int64_t count,
                        const EigenstatesOptions& options = {}, Where where = Where::current());

struct DensityOptions {
  // Terms of the Chebyshev series with Jackson's kernel: a level becomes a Gaussian of width pi R / moments, R half the width
  // of the spectrum.
  std::int64_t moments = 512;
  // density_of_states: random waves whose mean the trace is taken for. Of relative error about 1 / sqrt(vectors * points).
  std::int64_t vectors = 16;
  std::uint64_t seed = 1;
};

// The number of states per unit of energy at each of `energies` (float64, any shape), by the kernel polynomial method (Weisse,
// Wellein, Alvermann and Fehske, Rev. Mod. Phys. 78, 275 (2006)): sum_n delta(E - E_n), whose integral is the number of points.
// 0 outside the spectrum's bounds. Lazy. Throws for energies that are complex, moments outside [2, 1e6], vectors below 1.
Tensor density_of_states(const Schroedinger& system, const Tensor& energies,
                         const DensityOptions& options = {}, Where where = Where::current());

// The same of a state, sum_n |<n|psi>|^2 delta(E - E_n), whose integral is norm(psi)^2; of psi = 1 at one point it is the local
// density of states there. psi has the grid's shape; differentiable in psi. Throws as density_of_states, and for a psi that is not of
// the grid.
Tensor spectral_density(const Schroedinger& system, const Tensor& psi, const Tensor& energies,
                        const DensityOptions& options = {}, Where where = Where::current());

}  // namespace tinyphys
