#include <algorithm>
#include <cmath>
#include <exception>

#include "bench.hpp"

namespace tinyphys::bench {
namespace {

// Relative uncertainty of a median at which more samples tell nothing new.
constexpr double kSettled = 5e-3;
// A calibration pass that finds the work shorter than this does not trust its own figure.
constexpr double kShortest = 1e-7;

// v is reordered.
double median_of(std::vector<double>& v) {
  const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  if (v.size() % 2 != 0) return *middle;
  return 0.5 * (*middle + *std::max_element(v.begin(), middle));
}

// Standard error of the median of near-normal samples: 1.2533 sigma / sqrt(n), with sigma = 1.4826 MAD.
bool settled(const std::vector<double>& samples) {
  if (samples.empty()) return true;
  const Summary s = summarize(samples);
  return 1.858 * s.spread <= kSettled * s.median * std::sqrt(static_cast<double>(s.samples));
}

// Repetitions for which one sample lasts at least `shortest` seconds.
long calibrate(const Timed& work, double shortest) {
  long repeat = 1;
  while (shortest > 0) {
    const double took = work(repeat);
    if (took >= shortest) break;
    const double growth = 1.2 * shortest / std::max(took, kShortest);
    repeat = static_cast<long>(std::ceil(static_cast<double>(repeat) * std::clamp(growth, 1.5, 100.0)));
  }
  return repeat;
}

void take_samples(const Bench& bench, std::vector<double>& work, std::vector<double>& reference) {
  const Sampling& how = bench.sampling;
  for (long i = 0; i < how.warm_up; ++i) {
    bench.work(1);
    if (bench.reference) bench.reference(1);
  }
  const long repeat = calibrate(bench.work, how.min_sample_s);
  const long reference_repeat = bench.reference ? calibrate(bench.reference, how.min_sample_s) : 0;
  const auto start = Clock::now();
  for (long i = 0; i < how.max_samples; ++i) {
    if (i >= how.min_samples &&
        (seconds_since(start) > how.budget_s || (settled(work) && settled(reference))))
      break;
    work.push_back(bench.work(repeat) / static_cast<double>(repeat) / bench.units);
    if (bench.reference)
      reference.push_back(bench.reference(reference_repeat) / static_cast<double>(reference_repeat) /
                          bench.units);
  }
}

}  // namespace

Summary summarize(std::vector<double> samples) {
  Summary s;
  s.samples = static_cast<long>(samples.size());
  if (samples.empty()) return s;
  s.median = median_of(samples);
  s.fastest = *std::min_element(samples.begin(), samples.end());
  for (double& x : samples) x = std::abs(x - s.median);
  s.spread = median_of(samples);
  return s;
}

bool Result::holds() const {
  if (status != Status::kOk) return false;
  if (goal == nullptr) return true;
  // Written so that a NaN, a missing figure, misses.
  return (std::isinf(goal->max_seconds) || work.median <= goal->max_seconds) &&
         (goal->min_ratio == 0 || ratio >= goal->min_ratio);
}

Result measure(const Row& row) {
  Result r;
  r.row = &row;
  r.goal = find_goal(row.name);
  try {
    const Bench bench = row.set_up();
    std::vector<double> work, reference;
    take_samples(bench, work, reference);
    r.work = summarize(std::move(work));
    r.reference = summarize(std::move(reference));
    r.ratio = r.reference.median / r.work.median;
    if (bench.finish) r.note = bench.finish();
  } catch (const Wrong& e) {
    r.status = Status::kWrong;
    r.note = e.what();
  } catch (const std::exception& e) {
    r.status = Status::kError;
    r.note = e.what();
  }
  return r;
}

}  // namespace tinyphys::bench
