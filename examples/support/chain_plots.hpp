// The two plots of harmonic_chain: the normal modes, and the motion. The motion at each time is one jump of
// its own from the start, so that the last seconds of a run of months cost as little as the first.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <numbers>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "bad_input.hpp"
#include "chain_modes.hpp"
#include "chain_options.hpp"
#include "svg.hpp"

namespace example {

/// The positions after so many steps.
using Sampler = std::function<std::vector<double>(std::int64_t steps)>;

struct PlotReport {
  std::filesystem::path spectrum, motion;
  std::size_t samples = 0;
  double sampling_seconds = 0;
  std::vector<std::string> left_out;  // what is not shown, and why
};

inline void make_plot_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw BadInput(fmt::format("{}: cannot make the folder: {}", folder.string(), error.message()));
}

namespace detail {

/// The magnitude that this part (0 to 1) of all values does not exceed; those that are not finite are left
/// out.
inline double magnitude_quantile(const std::vector<std::vector<double>>& columns, double part) {
  std::vector<double> all;
  for (const auto& column : columns)
    for (const double v : column)
      if (std::isfinite(v)) all.push_back(std::abs(v));
  if (all.empty()) return 1;
  const auto at = all.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(all.size() - 1));
  std::nth_element(all.begin(), at, all.end());
  return *at > 0 ? *at : *std::max_element(all.begin(), all.end());
}

inline std::vector<double> row_of(const std::vector<std::vector<double>>& columns, std::size_t row) {
  std::vector<double> out;
  for (const auto& column : columns) out.push_back(column[row]);
  return out;
}

}  // namespace detail

/// Samples the motion and writes spectrum.svg and motion.svg. frequencies: ascending, rad/s.
/// last_seconds_cheap: a sample of the last seconds does not take long.
inline PlotReport draw_plots(const ChainOptions& options, const std::vector<double>& mass,
                             const std::vector<double>& frequencies, bool last_seconds_cheap,
                             const Sampler& sample) {
  constexpr std::size_t kSamples = 256;    // a power of 2 for the spectrum
  constexpr std::size_t kEndSamples = 64;  // of the last seconds
  constexpr double kPatience = 2;          // seconds of sampling; enough for chains of some hundred masses

  PlotReport report{options.plot / "spectrum.svg", options.plot / "motion.svg", 0, 0, {}};
  const std::size_t n = mass.size();
  const double h = options.dt, highest = frequencies.back();
  // Somewhat more than two samples a period of the fastest mode, so that the spectrum shows every mode in its
  // place.
  const double between = highest > 0 ? 0.9 * std::numbers::pi / highest : std::abs(h);
  const auto stride = static_cast<std::int64_t>(std::clamp(between / std::abs(h), 1.0, 1e15));
  const double step = h * static_cast<double>(stride);

  const auto start = std::chrono::steady_clock::now();
  std::vector<double> times, end_times;
  std::vector<std::vector<double>> motion, end_motion;
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (std::size_t i = 0; i < kSamples && (i < 16 || elapsed() < kPatience); ++i) {
    times.push_back(static_cast<double>(i) * step);
    motion.push_back(sample(static_cast<std::int64_t>(i) * stride));
  }
  const std::size_t kept = std::bit_floor(motion.size());
  if (motion.size() < kSamples)
    report.left_out.push_back(
        fmt::format("the plots hold {} of {} samples: no more were ready in time", kept, kSamples));
  times.resize(kept);
  motion.resize(kept);
  const std::size_t zoomed = std::min(kEndSamples, kept);
  const std::int64_t end_steps = static_cast<std::int64_t>(zoomed - 1) * stride;
  if (options.steps < 2 * end_steps) {
    report.left_out.push_back("the last seconds are not drawn: the run is shorter than the plot");
  } else if (!last_seconds_cheap) {
    report.left_out.push_back(
        "the last seconds are not drawn: without a jump each sample takes the whole run");
  } else {
    for (std::size_t i = 0; i < zoomed; ++i) {
      const std::int64_t back = static_cast<std::int64_t>(zoomed - 1 - i) * stride;
      end_times.push_back(-h * static_cast<double>(back));
      end_motion.push_back(sample(options.steps - back));
    }
  }
  report.samples = motion.size() + end_motion.size();
  report.sampling_seconds = elapsed();

  {
    std::vector<double> numbers, omega, height = motion_spectrum(motion, mass);
    for (std::size_t i = 0; i < n; ++i) numbers.push_back(static_cast<double>(i + 1));
    double top = 0;
    for (const double v : height)
      if (std::isfinite(v)) top = std::max(top, v);
    const double window = std::abs(step) * static_cast<double>(kept);
    for (std::size_t i = 0; i < height.size(); ++i) {
      omega.push_back(2 * std::numbers::pi / window * static_cast<double>(i));
      height[i] = std::log10(height[i]);
    }
    const double most = top > 0 ? std::ceil(std::log10(top) + 0.3) : 0.0;

    Figure figure(900, 720, fmt::format("Normal modes of {} masses and springs", n));
    Panel modes({.x = 90, .y = 74, .width = 770, .height = 250},
                {"mode number, from the slowest", 0, static_cast<double>(n + 1)},
                {"angular frequency \u03c9 (rad/s)", 0, 1.05 * highest},
                "Frequencies: \u03c9\u00b2 are the eigenvalues of M\u207b\u00b9K");
    modes.points(numbers, frequencies, kBlue);
    figure.add(modes);
    Panel spectrum({.x = 90, .y = 410, .width = 770, .height = 250},
                   {"angular frequency \u03c9 (rad/s)", 0, 1.05 * highest},
                   {"amplitude of \u221am q (\u221akg m)", most - 6, most, true},
                   fmt::format("Spectrum of the motion: {} samples over {:.4g} s", kept, window));
    spectrum.line(omega, height, kRed, "sampled motion, summed over the masses");
    spectrum.marks(frequencies, kBlue, "normal modes (strokes at the top)");
    figure.add(spectrum);
    figure.save(report.spectrum);
  }
  {
    const double scale = detail::magnitude_quantile(motion, 0.995);
    std::vector<std::size_t> shown = {n / 4, n / 2, 3 * n / 4};
    shown.erase(std::unique(shown.begin(), shown.end()), shown.end());
    const std::array<std::string_view, 3> colors = {kBlue, kRed, kGreen};

    Figure figure(980, 800, fmt::format("Motion of {} masses and springs", n));
    Panel picture({.x = 90, .y = 74, .width = 760, .height = 300},
                  {h < 0 ? "time \u2212t (s)" : "time t (s)", 0, std::abs(times.back())},
                  {"mass number", -0.5, static_cast<double>(n) - 0.5}, "All masses: displacement q");
    picture.heat_map(motion, scale);
    picture.color_scale(scale, "q (m)");
    figure.add(picture);

    const double room = 1.15 * std::max(detail::magnitude_quantile(motion, 1.0), 1e-300);
    const bool two = !end_motion.empty();
    const double width = two ? 365 : 760;
    const std::vector<double> first_times(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(zoomed));
    const std::vector<std::vector<double>> first_motion(motion.begin(),
                                                        motion.begin() + static_cast<std::ptrdiff_t>(zoomed));
    const auto low_high = [](const std::vector<double>& t) { return std::minmax(t.front(), t.back()); };
    const auto [low, high] = low_high(first_times);
    Panel begin({.x = 90, .y = 460, .width = width, .height = 280}, {"time t (s)", low, high},
                {"displacement q (m)", -room, room}, "The first seconds");
    for (std::size_t i = 0; i < shown.size(); ++i)
      begin.line(first_times, detail::row_of(first_motion, shown[i]), colors[i],
                 fmt::format("mass {}", shown[i]));
    figure.add(begin);
    if (two) {
      const double end_room = 1.15 * std::max(detail::magnitude_quantile(end_motion, 1.0), 1e-300);
      const auto [end_low, end_high] = low_high(end_times);
      Panel end({.x = 550, .y = 460, .width = width, .height = 280},
                {fmt::format("time t \u2212 T (s), T = {:.10g} s", h * static_cast<double>(options.steps)),
                 end_low, end_high},
                {"displacement q (m)", -end_room, end_room},
                fmt::format("The last seconds, after {} steps", options.steps));
      for (std::size_t i = 0; i < shown.size(); ++i)
        end.line(end_times, detail::row_of(end_motion, shown[i]), colors[i],
                 fmt::format("mass {}", shown[i]));
      figure.add(end);
    }
    figure.save(report.motion);
  }
  return report;
}

}  // namespace example
