#include "linalg/mode_powers.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace tinyphys {
namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

// Beyond these no product of a few factors stays in range.
constexpr double kLargeStep = 1e50, kSmallStep = 1e-50;

double theta_rounding(const IntegratorRow& row) {
  constexpr double kUnit = 0x1p-101;
  if (row.has(Part::kFlow)) return kUnit;
  // Coefficients above 1 of both signs cancel: each substep may lose that much.
  double sum = 0.0;
  for (const Substep& s : row.substeps) sum += std::fabs(s.coefficient);
  return kUnit * std::max(1.0, 0.5 * sum);
}

}  // namespace

ModeAngle mode_angle(const IntegratorRow& row, DD z, const StepMap& m) {
  ModeAngle angle;
  angle.rounding = theta_rounding(row);
  if (row.has(Part::kFlow)) {
    angle.sine = 0.5 * std::sqrt(std::fabs(z.hi));
    angle.unstable = z.hi < 0.0;
    return angle;
  }
  if (m.singular || !isfinite(m.sigma)) return angle;
  angle.sine = std::sqrt(std::fabs(m.sigma.hi));
  angle.co_sine = std::sqrt(std::fabs(m.co_sigma.hi));
  angle.unstable = m.sigma.hi < 0.0 || m.co_sigma.hi < 0.0;
  angle.reach = std::max(std::fabs(m.b.hi), std::fabs(m.c.hi));
  angle.skew = 0.5 * std::fabs((m.a - m.d).hi);
  angle.curve = std::fabs(m.s.hi);
  angle.gain = std::max(std::fabs(m.s.hi), std::fabs(m.slope));
  return angle;
}

ModeBound mode_bound(DD lambda, double step, std::int64_t steps, const ModeAngle& angle,
                     const ModeCoefficients& m) {
  const double count = static_cast<double>(steps), h = std::fabs(step), h2 = h * h;
  const double slope = std::min(1.0 / angle.co_sine, std::max(count, 1.0));
  const double u_n = std::min(count, 0.5 * slope / angle.sine);  // |U_{N-1}|, but for growth
  const double tilt = h2 * std::fabs(lambda.hi) * angle.skew * u_n;
  ModeBound b;
  b.lever = h * angle.reach * u_n;
  b.lever2 = 2.0 * h2 * angle.curve * std::min(count * count, 1.0 / (angle.sine * angle.sine)) +
             h2 * angle.skew * u_n;
  // theta and N theta are right to some units.
  b.rounding = angle.rounding * (8.0 + 2.0 * count * angle.sine * slope);
  const double grown = std::max(std::fabs(m.t.hi), std::fabs(m.t_p.hi)) *
                       std::exp2(std::min(static_cast<double>(m.exponent), 2000.0));
  b.growth = std::max(1.0 + tilt, grown);
  return b;
}

double phase_error(double h, std::int64_t steps, const ModeAngle& angle, double d_lambda) {
  const double count = static_cast<double>(steps);
  // d theta = d sigma / sqrt(sigma (1 - sigma)); for slow modes and near sigma = 1 the change of U itself, N^2.
  const double slope = std::min(angle.co_sine > 0.0 ? 1.0 / angle.co_sine : count, std::max(count, 1.0));
  const double lever = std::min(angle.sine > 0.0 ? 1.0 / angle.sine : 2.0 * count, 2.0 * count);
  return count * h * h * d_lambda * angle.gain * lever * slope +
         2.0 * count * angle.sine * slope * angle.rounding;
}

ModePowers::ModePowers(std::span<const DD> lambda, double h, std::int64_t steps, const IntegratorRow& row,
                       bool forces, const ParallelFor& parallel, const ModeKernels& kernels)
    : count_(static_cast<long>(lambda.size())),
      padded_((count_ + kModeBlock - 1) / kModeBlock * kModeBlock),
      forces_(forces) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  extremes_ = {0.0, kInfinity, -kInfinity};
  const std::size_t n_outputs = forces ? kModeOutputs : kModeOutputsWithoutForces;
  regular_.assign(u(padded_), 0);
  data_.resize(n_outputs * u(padded_));
  const bool moderate = std::fabs(h) > kSmallStep && std::fabs(h) < kLargeStep;
  std::shared_ptr<const ModeKernel> kernel;
  if (kernels && moderate && count_ >= kModeBlock) kernel = kernels(row, forces);
  const long blocks = padded_ / kModeBlock;
  struct Share {
    ModeExtremes extremes;
    std::vector<Odd> odd;
    std::string reason;
  };
  std::vector<Share> parts(u(blocks));
  run_blocks(parallel, blocks, [&](long block) {
    Share& part = parts[u(block)];
    part.extremes = extremes_;
    ModeExtremes& e = part.extremes;
    const long first = block * kModeBlock, last = std::min(count_, first + kModeBlock);
    std::array<double*, kModeOutputs> out{};
    for (std::size_t i = 0; i < n_outputs; ++i) out[i] = array(i) + first;
    if (kernel) {
      std::array<double, kModeBlock> hi, lo;
      for (long j = first; j < first + kModeBlock; ++j) {
        const DD value = lambda[u(std::min(j, count_ - 1))];  // the last block is filled up
        hi[u(j - first)] = value.hi;
        lo[u(j - first)] = value.lo;
      }
      kernel->run(h, steps, theta_rounding(row), hi.data(), lo.data(), std::span(out).first(n_outputs));
    }
    for (long j = first; j < last; ++j) {
      const DD value = lambda[u(j)];
      const auto i = u(j - first);
      e.lambda_min = std::min(e.lambda_min, value.hi);
      e.lambda_max = std::max(e.lambda_max, value.hi);
      if (kernel && out[kModeRegular][i] != 0.0) {
        regular_[u(j)] = 1;
        e.phase = std::max(e.phase, out[kModePhase][i]);
        continue;
      }
      const DD z = value * h * h;
      const StepMap step = row.has(Part::kFlow) || !isfinite(z) ? StepMap{} : step_map(row, z);
      Odd odd{j, false, mode_coefficients(value, h, steps, row, step, &part.reason), {}};
      const ModeAngle angle = mode_angle(row, z, step);
      odd.bound = mode_bound(value, h, steps, angle, odd.coefficients);
      odd.unstable = angle.unstable;
      e.phase = std::max(e.phase, phase_error(h, steps, angle, 0x1p-104 * std::fabs(value.hi)));
      const ModeCoefficients& c = odd.coefficients;
      if (!moderate || odd.unstable || c.exponent != 0 || !(odd.bound.growth <= 1.0) || !(c.t == c.t_p) ||
          !(c.a2 == c.a2_p)) {
        part.odd.push_back(odd);
        continue;
      }
      regular_[u(j)] = 1;
      const auto put = [&](std::size_t which, DD x) {
        out[which][i] = x.hi;
        out[which + 1][i] = x.lo;
      };
      put(kModeT, c.t);
      put(kModeB, c.b);
      put(kModeA1, c.a1);
      out[kModeLever][i] = odd.bound.lever;
      out[kModeRounding][i] = odd.bound.rounding;
      if (!forces_) continue;
      put(kModeA2, c.a2);
      out[kModeLever2][i] = odd.bound.lever2;
    }
  });
  for (const Share& part : parts) {
    if (reason_.empty()) reason_ = part.reason;
    odd_.insert(odd_.end(), part.odd.begin(), part.odd.end());
    extremes_.phase = std::max(extremes_.phase, part.extremes.phase);
    extremes_.lambda_min = std::min(extremes_.lambda_min, part.extremes.lambda_min);
    extremes_.lambda_max = std::max(extremes_.lambda_max, part.extremes.lambda_max);
  }
}

const ModePowers::Odd& ModePowers::odd(long j) const {
  return *std::lower_bound(odd_.begin(), odd_.end(), j,
                           [](const Odd& o, long mode) { return o.mode < mode; });
}

ModeCoefficients ModePowers::coefficients(long j) const {
  if (!in_arrays(j)) return odd(j).coefficients;
  ModeCoefficients c;
  const auto value = [&](std::size_t which) { return DD(at(which, j), at(which + 1, j)); };
  c.t = c.t_p = value(kModeT);
  c.b = value(kModeB);
  c.a1 = value(kModeA1);
  if (forces_) c.a2 = c.a2_p = value(kModeA2);
  return c;
}

ModeBound ModePowers::bound(long j) const {
  if (!in_arrays(j)) return odd(j).bound;
  return {at(kModeLever, j), forces_ ? at(kModeLever2, j) : 0.0, at(kModeRounding, j), 1.0};
}

std::vector<long> ModePowers::unstable() const {
  std::vector<long> modes;
  for (const Odd& o : odd_)
    if (o.unstable) modes.push_back(o.mode);
  return modes;
}

}  // namespace tinyphys
