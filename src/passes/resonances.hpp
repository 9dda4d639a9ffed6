// Multiple time steps (RESPA): what is checked of the terms, what explain() says of the levels, and where the step of a level
// meets a period of the faster ones.
#pragma once

#include <string>

#include "support/records.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Throws, as evolve of the user's call at file:line, where a term of an EVOLVE with levels has no place in them: it has q
// and no level, or has p alone and is not of the innermost level. That none joins q and p is checked for the integrator.
void check_levels(const Node* evolve, const char* file, unsigned line);

// What was asked for: the levels, and how often each is evaluated. `names` of the terms, `steps` where known.
void report_levels(const EvolveRecord& record, const Labels& labels, Records& to);

// The terms of the level of so many steps: "slow" and "bonds".
std::string level_text(const EvolveRecord& record, const Labels& labels, std::int64_t steps);

// For an EVOLVE with levels whose faster terms are quadratic, few and known: the step of each level against their
// frequencies Omega. Near h Omega = k pi the kicks of the slower term meet the motion in step and pump it. With omega^2 of
// the slower term along the mode (where that is quadratic, too) the step has half the trace
//   cos(Omega h) - omega^2 h / (2 Omega) sin(Omega h),
// and is unstable where that is beyond 1 (Biesiadecki and Skeel 1993). Omega is that of the steps taken:
// sin(Omega h' / 2) = Omega' h' / 2 of the inner leapfrog steps h' of a mode Omega'. Else: why it was not checked.
Records find_resonances(const Node* evolve, const Labels& labels);

}  // namespace tinyphys
