#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace tinyphys {

/// A bar on the terminal for one long loop: how far it is, and the time left. Drawn at most ten times a second and
/// erased at the end. TINYPHYS_PROGRESS=auto draws it where stderr is a terminal and the loop has run for a while;
/// 1 draws it always, 0 never. One thread updates it; debug lines of any thread are printed above it.
class ProgressBar {
 public:
  ProgressBar(std::string_view label, long total);
  /// As finish(): a loop that throws leaves no bar behind.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `done` of `total` steps are made. Costs one look at the clock, or nothing where no bar is wanted.
  void update(long done);
  void finish();

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  long total_;
  bool wanted_;
  bool drawn_ = false;
  Clock::time_point start_;
  Clock::time_point next_;
};

/// The text of the bar: `evolve [#####     ]  50.0%  5e+08/1e+09  eta 12s`.
std::string format_progress(std::string_view label, long done, long total, double elapsed_seconds);

}  // namespace tinyphys
