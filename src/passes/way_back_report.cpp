#include "passes/way_back_report.hpp"

#include <cmath>
#include <string>

#include <fmt/format.h>

#include "passes/scan_lift.hpp"
#include "support/env.hpp"

namespace tinyphys {
namespace {

std::string size_text(double bytes) {
  if (bytes < 1e6) return fmt::format("{:.3g} kB", bytes * 1e-3);
  return bytes < 1e9 ? fmt::format("{:.3g} MB", bytes * 1e-6) : fmt::format("{:.3g} GB", bytes * 1e-9);
}

std::string checkpoints_text(const WayBack& way) {
  return fmt::format(
      "over checkpoints, {} states kept at a time, {}, in {} levels of {}, each step taken {} times",
      with_commas(way.kept), size_text(way.bytes), way.levels, way.base, way.levels);
}

}  // namespace

void WayBackNotes::report(Records&) const {}

std::string way_back_text(const WayBack& way) {
  switch (way.kind) {
    case WayBack::Kind::kTape:
      return tape_text(way.steps, static_cast<std::size_t>(way.state_bytes)).substr(2);
    case WayBack::Kind::kCheckpoints: return checkpoints_text(way);
    case WayBack::Kind::kUndo:
      return fmt::format("each step undone, {} of states whatever the steps", size_text(way.bytes));
    case WayBack::Kind::kFixedPoint:
      return fmt::format("each step undone to the bit, {} of states whatever the steps",
                         size_text(way.bytes));
  }
  return {};
}

void report_way_back(const WayBack& way, const Notes* run, Records& to) {
  const auto* notes = dynamic_cast<const WayBackNotes*>(run);
  if (!way.refused.empty()) to.push_back({Finding::kRefused, "undoing the steps: " + way.refused});
  const bool undone = way.kind == WayBack::Kind::kUndo || way.kind == WayBack::Kind::kFixedPoint;
  if (undone) to.push_back({Finding::kFound, "the step is a sequence of shears: it can be undone"});
  if (way.offers_undo)
    to.push_back(
        {Finding::kOffers,
         "Reversible::Float: the step is a sequence of shears, undone it needs no states, and is watched"});
  if (!notes) return;
  if (notes->missed && way.kind == WayBack::Kind::kUndo) {
    const double off = *notes->missed;
    if (off <= kReversalTolerance)
      to.push_back({Finding::kError,
                    fmt::format("the recovered start is off by {:.1e}, relative; up to {:.0e} is taken", off,
                                kReversalTolerance),
                    "",
                    {{"start_missed", off}}});
    else
      to.push_back(
          {Finding::kRefused,
           fmt::format("undoing the steps: the recovered start is off by {:.1e}, relative, more than "
                       "{:.0e}; the gradient went over checkpoints instead",
                       off, kReversalTolerance),
           "",
           {{"start_missed", off}}});
  }
  if (way.kind == WayBack::Kind::kFixedPoint)
    to.push_back({Finding::kError, "the recovered start is the recorded one, bit for bit"});
  if (notes->grew && std::isfinite(*notes->grew))
    to.push_back({Finding::kFound,
                  fmt::format("the cotangent of the state grows by a factor {:.3g} from the end to the start",
                              *notes->grew),
                  "",
                  {{"adjoint_growth", *notes->grew}}});
}

}  // namespace tinyphys
