#include "tinyphys/tolerance.hpp"

#include <utility>

#include "tensor/ops.hpp"

namespace tinyphys {
namespace {

thread_local double current = 0;

}  // namespace

ToleranceScope::ToleranceScope(double value) : before_(std::exchange(current, value)) {}
ToleranceScope::~ToleranceScope() { current = before_; }

ToleranceScope tolerance(double relative_error, std::source_location where) {
  front::check_tolerance(relative_error, "tolerance", where);
  return ToleranceScope(relative_error);
}

double current_tolerance() { return current; }

}  // namespace tinyphys
