// What explain() says of the way back of a gradient through a loop that stays a loop.
#pragma once

#include <optional>
#include <string>

#include "derive/way_back.hpp"
#include "support/records.hpp"

namespace tinyphys {

// What a run has measured: how far the recovered start was off (CheckKind::kStartMissed), and by what factor the largest
// cotangent of the state grew from the end to the start.
class WayBackNotes final : public Notes {
 public:
  std::optional<double> missed, grew;
  void report(Records& to) const override;
};

// "over a tape of its states, 3 MB", "over checkpoints, ...": how it is chosen.
std::string way_back_text(const WayBack& way);
// The findings beside it: why steps are not undone, what a run has measured.
void report_way_back(const WayBack& way, const Notes* run, Records& to);

}  // namespace tinyphys
