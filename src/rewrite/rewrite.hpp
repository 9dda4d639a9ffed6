// The rule lists in use.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rewrite/driver.hpp"

namespace tinyphys {

// rules_algebra: every bit of every value stays.
const RuleTable& algebra_table();
// rules_algebra and rules_recognise: equal for real numbers. Only for a recogniser's private copy.
const RuleTable& recognise_table();

// The graph after rules_algebra, to a fixpoint. A LAMBDA is entered only as a root;
// simplify_bodies does the bodies of SCAN, EVOLVE, ...
UOp simplify(const UOp& root);
std::vector<UOp> simplify(std::span<const UOp> roots);
std::vector<UOp> simplify_bodies(std::span<const UOp> roots);

// The graph after rules_algebra and rules_recognise: for a recogniser to look at, never to run.
UOp simplify_for_recognition(const UOp& root);
std::vector<UOp> simplify_for_recognition(std::span<const UOp> roots);

// Every rule of a table, one a line, with the place that states it.
std::string rules_text(const RuleTable& rules);

}  // namespace tinyphys
