// Complex numbers and small complex matrices in double-double: the symbols of lattices.
#pragma once

#include <cmath>
#include <vector>

#include "support/dd.hpp"

namespace tinyphys {

struct ComplexDD {
  DD re = 0.0, im = 0.0;

  friend ComplexDD operator+(const ComplexDD& a, const ComplexDD& b) { return {a.re + b.re, a.im + b.im}; }
  friend ComplexDD operator-(const ComplexDD& a, const ComplexDD& b) { return {a.re - b.re, a.im - b.im}; }
  friend ComplexDD operator*(const ComplexDD& a, const ComplexDD& b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  friend ComplexDD operator*(DD a, const ComplexDD& b) { return {a * b.re, a * b.im}; }
};
inline ComplexDD conj(const ComplexDD& a) { return {a.re, -a.im}; }
inline double size(const ComplexDD& a) { return std::hypot(a.re.hi, a.im.hi); }

// Row-major, n x n.
using ComplexMatrixDD = std::vector<ComplexDD>;

// A = V diag(lambda) V^H of a Hermitian matrix (its lower triangle and the imaginary parts of its diagonal are not
// looked at), by cyclic Jacobi rotations (Golub & Van Loan, section 8.5) until the rest is rounding.
struct HermitianEigen {
  std::vector<DD> lambda;
  ComplexMatrixDD vectors;  // column j belongs to lambda[j]
};
HermitianEigen hermitian_eigen(int n, ComplexMatrixDD a);

// (I + A)(I + B) - I.
ComplexMatrixDD compose_minus_identity(int n, const ComplexMatrixDD& a, const ComplexMatrixDD& b);

// X with A X = B, by elimination with row pivots; empty where A is singular or not finite.
ComplexMatrixDD solve(int n, ComplexMatrixDD a, ComplexMatrixDD b);

// exp(X) - I, by the Taylor series of X / 2^s and s squarings (Moler & Van Loan 2003, method 3).
ComplexMatrixDD exp_minus_identity(int n, ComplexMatrixDD x);

// (I + B)^steps - I by squaring, steps >= 0: (I + B)^2 = I + (2 B + B^2).
ComplexMatrixDD power_minus_identity(int n, ComplexMatrixDD b, std::int64_t steps);

}  // namespace tinyphys
