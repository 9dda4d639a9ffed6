#include "support/progress.hpp"

#include <algorithm>
#include <cmath>
#include <unistd.h>

#include <fmt/format.h>

#include "support/debug.hpp"
#include "support/env.hpp"

namespace tinyphys {

namespace {

constexpr std::chrono::milliseconds kInterval{100};
/// What is over sooner than this needs no bar.
constexpr std::chrono::milliseconds kQuiet{500};
constexpr int kBarWidth = 30;

bool wants_bar() {
  switch (env::progress()) {
    case env::ProgressChoice::Off: return false;
    case env::ProgressChoice::On: return true;
    case env::ProgressChoice::Auto: return isatty(STDERR_FILENO) == 1;
  }
  return false;
}

std::string format_seconds(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  long s = std::lround(std::min(seconds, 1e9));
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
}

}  // namespace

std::string format_progress(std::string_view label, long done, long total, double elapsed_seconds) {
  double fraction = total > 0 ? std::clamp(double(done) / double(total), 0.0, 1.0) : 1.0;
  double left = elapsed_seconds * (1 / fraction - 1);
  std::string filled(static_cast<std::size_t>(fraction * kBarWidth), '#');
  return fmt::format("{} [{:<{}}] {:5.1f}%  {:.4g}/{:.4g}  eta {}", label, filled, kBarWidth, 100 * fraction,
                     double(done), double(total), format_seconds(left));
}

ProgressBar::ProgressBar(std::string_view label, long total)
    : label_(label),
      total_(total),
      wanted_(wants_bar()),
      start_(Clock::now()),
      next_(env::progress() == env::ProgressChoice::On ? start_ : start_ + kQuiet) {}

ProgressBar::~ProgressBar() { finish(); }

void ProgressBar::update(long done) {
  if (!wanted_) return;
  auto now = Clock::now();
  if (now < next_) return;
  next_ = now + kInterval;
  drawn_ = true;
  set_status_line(format_progress(label_, done, total_, std::chrono::duration<double>(now - start_).count()));
}

void ProgressBar::finish() {
  if (drawn_) set_status_line("");
  drawn_ = false;
}

}  // namespace tinyphys
