// Coefficients of the Chebyshev series of exponentials of an operator with spectrum in [-1, 1] (Tal-Ezer and Kosloff, J.
// Chem. Phys. 81, 3967 (1984)):
//   exp(-i x y) = sum_k (2 - delta_k0) (-i)^k J_k(x) T_k(y),
//   exp(-x y)   = exp(x) sum_k (2 - delta_k0) (-1)^k exp(-x) I_k(x) T_k(y),    -1 <= y <= 1.
#pragma once

#include <complex>
#include <vector>

namespace tinyphys {

/// J_0(x), J_1(x), ... up to the last one that is not below `tol` in size, each with an absolute error below 1e-16, x from 0
/// to 1e7. By Miller's backward recurrence, forward being unstable for k > x, normalised by J_0 + 2 (J_2 + J_4 + ...) = 1,
/// in double-double (Gautschi, SIAM Review 9, 24 (1967)). At 1e-13 there are at most x + 9.3 x^(1/3) + 4. Throws tp::Error
/// where x is negative, too large or not finite, or tol is not in (0, 1).
std::vector<double> bessel_j(double x, double tol);

/// exp(-x) I_0(x), exp(-x) I_1(x), ..., the same way; normalised by I_0 + 2 (I_1 + I_2 + ...) = exp(x).
std::vector<double> scaled_bessel_i(double x, double tol);

/// The series of exp(-i x y) for x of either sign, or of exp(-x y) / exp(x) for x >= 0, with all factors but exp(x). The last
/// coefficient says where it was cut: what is left out is about as large.
std::vector<std::complex<double>> chebyshev_of_phase(double x, double tol);
std::vector<double> chebyshev_of_decay(double x, double tol);

}  // namespace tinyphys
