// Method::Split: which terms of H are taken by their exact flow, and which kick (PHYSICS section 3).
#pragma once

#include <string>

#include "support/records.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// The EVOLVE with its H cut: terms of degree <= 2, and the others, for each term that the user named. A proof that all of H
// is quadratic leaves no other. Throws, as evolve of the user's call at file:line, where a term beyond degree 2 depends on p,
// H depends on the time, or the mollified impulse is asked for and the flow has no frequencies to make it of; where it is not
// asked for, the impulse is then Plain.
UOp split_evolve(const UOp& evolve, const char* file, unsigned line);

// What is known of it by structure.
Records report_split(const Node* evolve, const Labels& labels);

// The frequencies Omega of the flow against the step h, where they are few and known, and which impulse that means. A plain
// kick resonates near h Omega = k pi.
Records find_split_resonances(const Node* evolve);

}  // namespace tinyphys
