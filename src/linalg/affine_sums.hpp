// The sums over N steps of an affine map of which a gradient by its matrix and its shift consists, without the states of the
// steps.
//
// Of z' = A z + b a loss changes by dL = sum_k c_k^T (dA z_k + db), where c_k = (A^T)^(N-1-k) c_N is the cotangent of what
// step k gives. From the start of the motion on, w_k = z_k - z_0 moves by w' = A w + g, g = (A - I) z_0 + b, and
//   Phi_N = sum_k w_k c_k^T,   psi_N = sum_k c_k^T,   dL = <dA, Phi_N^T> + psi_N (dA z_0 + db)
// come by doubling, of any A, defective or growing, and no difference of eigenvalues divides anything:
//   Phi_2m = Phi_m A^m + A^m Phi_m + w_m psi_m,   psi_2m = psi_m A^m + psi_m,   w_2m = A^m w_m + w_m,
//   Phi_(m+1) = Phi_m A + w_m c_N^T,              psi_(m+1) = psi_m A + c_N^T,  w_(m+1) = A w_m + g.
// A flow has integrals in their place: those of a first short piece are series. All is double-double.
//
// Coordinates that the map does not couple are blocks of their own: Phi is made of a pair of them, the first that of the
// states, the second that of the cotangents.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "linalg/affine_power.hpp"
#include "linalg/balanced.hpp"

namespace tinyphys {

// Row-major.
using DDEntries = std::vector<DD>;

// A change of the step that acts within it, of a step of several parts: weight times what it does to `at` of the state, and its
// cotangent is c^T R.
struct SumTerm {
  double weight = 1.0;
  AffineMap at;
  DDEntries r;
};

// The powers of one block.
struct StepPowers {
  long d = 0;
  std::string reason;  // why there are none
  AffineMap
      motion;  // w moves by motion.b w + g, g = motion.b z_0 + motion.shift; of a flow: over its first piece
  DDEntries step;  // A; of a flow motion.b
  struct Level {
    DDEntries power;  // A^m, and then m doubles
    bool odd;         // and is one more
    Log2 norm, error;
  };
  std::vector<Level> levels;
  double piece = 0;            // of a flow: how many steps its first piece is; 0: no flow
  std::vector<double> scale;   // log2 of the balanced units,
  std::vector<double> unit;    // and these, where all are of moderate size
  Log2 step_norm, step_error;  // in those
  Log2 peak = Log2::of(1.0);   // the largest power
  Log2 norms;                  // the sum of what products by the levels round
  double count = 1;            // of steps; of a flow of pieces
  double rounding = 0;         // of a step, relative
  std::vector<SumTerm> terms;  // none: what changes is the step as a whole
};

// steps >= 1.
StepPowers step_powers(const AffineMap& step, std::int64_t steps);
// Of the flow z' = G z + g over steps * h, in 2^doublings pieces; doublings_of says how many a block needs.
StepPowers flow_powers(const DDMatrix& g_matrix, std::span<const DD> g, double h, std::int64_t steps,
                       int doublings);
int doublings_of(const DDMatrix& g_matrix, double h, std::int64_t steps);

// What a block's states, or its cotangents, come to on the way to N steps: before each doubling and each step more, and at last.
struct OnTheWay {
  DDEntries value;
  Log2 size, error;
};
struct StateCourse {
  const StepPowers* of = nullptr;
  int exponent = 0;  // all is in units of 2^exponent
  DDEntries g;
  Log2 g_error, peak;             // peak: of the w_m met
  std::vector<DDEntries> places;  // of the terms: what they act on at the start, from z_0
  std::vector<DDEntries> series;  // of a flow: the terms of w over its first piece
  std::vector<OnTheWay> way;      // w_m
  std::vector<double> end;        // w_N, as it is
};
struct CotangentCourse {
  const StepPowers* of = nullptr;
  int exponent = 0;
  DDEntries c;
  Log2 size, peak, off;       // of c; of the c_m met; and how far these may be off
  std::vector<OnTheWay> way;  // psi_m
};
StateCourse state_course(const StepPowers& of, const double* z0);
CotangentCourse cotangent_course(const StepPowers& of, std::int64_t steps, const double* cotangent);

struct BlockSums {
  std::vector<double> phi, psi;              // phi: of the states' block x of the cotangents'
  std::vector<double> phi_error, psi_error;  // bounds, but for the last rounding
};
// `closely`: by the sizes of what is met on the way too, which is dearer, and less where the motion decays.
BlockSums block_sums(const StateCourse& states, const CotangentCourse& cotangents, std::int64_t steps,
                     bool closely);

}  // namespace tinyphys
