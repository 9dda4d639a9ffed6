// Which step an evolution takes, and what the compiler may do with its loop.
#pragma once

#include <cstdint>

namespace tinyphys {

// How a step follows from H; h is dt. All are symplectic and symmetric.
//   LeapfrogKDK       p -= h/2 dH/dq, q += h dH/dp, p -= h/2 dH/dq: order 2; H = T(p) + V(q)
//   LeapfrogDKD       q += h/2 dH/dp, p -= h dH/dq, q += h/2 dH/dp: order 2; H = T(p) + V(q)
//   Exact             the flow itself, for H quadratic in (q, p)
//   ImplicitMidpoint  z += h J dH/dz((z + z') / 2): order 2; any H
//   Yoshida4          3 leapfrog steps (Yoshida 1990): order 4; H = T(p) + V(q), as the following
//   Yoshida6          7 leapfrog steps (Yoshida 1990, solution A): order 6
//   Yoshida8          15 leapfrog steps (Suzuki and Umeno 1993): order 8
//   BlanesMoan4       6 forces, 30 to 1000 times the accuracy of Yoshida4 for the same work (Blanes and Moan 2002,
//                     S6): order 4
enum class Integrator : std::int64_t {
  LeapfrogKDK,
  LeapfrogDKD,
  Exact,
  ImplicitMidpoint,
  Yoshida4,
  Yoshida6,
  Yoshida8,
  BlanesMoan4,
};

// What the compiler may do.
//   Default  replace the loop by what gives the same result up to rounding
//   Loop     run the steps one by one
//   Auto     choose any method and say so; for now that is Default
//   TimeWarp steps of equal length in a fictitious time s, dt = g ds: small where the motion is fast. EvolveOptions::dt is ds, > 0.
//            For H = T(p) - U(q): the logarithmic Hamiltonian, g = 1 / U, U > 0 all along (Mikkola and Tanikawa 1999, Preto
//            and Tremaine 1999), whose drift-kick-drift follows two bodies on their orbit up to the phase. With
//            EvolveOptions::g: the time-transformed leapfrog (Mikkola and Aarseth 2002). Order 2; not for an ensemble, a
//            force, an H of the time, save_every or conserve. A step at which U, g or T - E0 is not above 0 is an error.
//   Split    take another step: the terms of H of degree <= 2 by their exact flow, the others as kicks between. Of order 2 with
//            LeapfrogKDK; Yoshida4, 6, 8 and BlanesMoan4 compose it to their order
//   Spectral one Chebyshev series of H for all of the time: of a wave (schroedinger.hpp), not of a System
enum class Method : std::int64_t { Default, Loop, Auto, TimeWarp, Split, Spectral };

// The kick of Method::Split, h being dt, Omega the frequencies of the terms of degree <= 2, V the others:
//   Plain      p -= h grad V(q): order 2, but resonates where h Omega is near a multiple of pi
//   Mollified  p -= h A^T grad V(A q) with A = sinc(h Omega) (Garcia-Archilla, Sanz-Serna and Skeel 1998): order 2, with an
//              error that no large Omega makes larger
//   Auto       Mollified where h Omega may exceed 1, else Plain
// In a composition h is the part of dt that each composed step takes. BlanesMoan4 composes the flows and kicks themselves, and
// is Plain.
enum class Impulse : std::int64_t { Auto, Plain, Mollified };

}  // namespace tinyphys
