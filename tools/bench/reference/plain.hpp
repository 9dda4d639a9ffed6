// Plain loops compiled with -O3 -march=native: what one writes without thinking of vectors.
#pragma once

namespace tinyphys::bench::plain {

// Leapfrog, kick-drift-kick, one force a step, of n bodies under gravity; q and p are [n][3].
void six_bodies(double* q, double* p, const double* mass, double g, double dt, long steps);

// The same of one Henon-Heiles trajectory: x, y, px, py.
void henon_heiles(double* s, double h, long steps);

}  // namespace tinyphys::bench::plain
