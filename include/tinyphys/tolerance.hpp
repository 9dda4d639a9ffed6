// A tolerance for what is computed in a scope.
//
//   { auto scope = tp::tolerance(1e-4); s = sys.evolve(z, options); }
#pragma once

#include <source_location>

namespace tinyphys {

// Holds on its own thread, from its making to its end; inner scopes win over outer ones.
class [[nodiscard]] ToleranceScope {
 public:
  ~ToleranceScope();
  ToleranceScope(const ToleranceScope&) = delete;
  ToleranceScope& operator=(const ToleranceScope&) = delete;

 private:
  friend ToleranceScope tolerance(double relative_error, std::source_location where);
  explicit ToleranceScope(double value);
  double before_;
};

// Evolutions recorded in the scope may be replaced by what is certified to give q and p within this relative error.
// There is nothing of that kind yet: the tolerance is recorded and shown, and changes no result. Throws for what is not
// finite, not above 0, or above 1.
[[nodiscard]] ToleranceScope tolerance(double relative_error,
                                       std::source_location where = std::source_location::current());

// That of the innermost scope on this thread; 0: there is none, and only roundings may differ.
double current_tolerance();

}  // namespace tinyphys
