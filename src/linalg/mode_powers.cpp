#include "linalg/mode_powers.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace tinyphys {
namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

constexpr long kBlock = 512;
constexpr int kArrays = 11;
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

// Of sine and cosine at multiples of 2 pi / kModeAngles: high words, low words of each.
const std::vector<double>& angle_table() {
  static const auto& table = *new std::vector<double>([] {
    std::vector<double> t(u(4 * kModeAngles));
    const DD angle = ldexp(kDDPi, -7);
    for (int k = 0; k < kModeAngles; ++k) {
      // By symmetry from the first quarter, so that the zeros are zero.
      const int quadrant = k / (kModeAngles / 4), rest = k % (kModeAngles / 4);
      DD s = 0.0, c = 1.0;
      if (rest != 0) sincos(angle * static_cast<double>(rest), s, c);
      const DD sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
      const DD cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
      t[u(k)] = sine.hi;
      t[u(kModeAngles + k)] = sine.lo;
      t[u(2 * kModeAngles + k)] = cosine.hi;
      t[u(3 * kModeAngles + k)] = cosine.lo;
    }
    return t;
  }());
  return table;
}

void put(double (&to)[2], DD value) {
  to[0] = value.hi;
  to[1] = value.lo;
}

// The kinds of steps that the vector code knows. The weights point into `weights`.
bool vector_task(const IntegratorRow& row, double h, std::int64_t steps, std::vector<double>& weights,
                 std::array<bool, 32>& kicks, ModeTask& task) {
  if (!(std::fabs(h) > kSmallStep && std::fabs(h) < kLargeStep)) return false;
  if (row.has(Part::kFlow)) {
    task.form = ModeForm::kFlow;
  } else if (row.substeps.size() == 1 && row.substeps[0].part == Part::kSolve &&
             row.substeps[0].coefficient == 1.0) {
    task.form = ModeForm::kMidpoint;
  } else {
    task.form = ModeForm::kSubsteps;
    if (!row.symmetric() || row.has(Part::kSolve) || row.substeps.size() > kicks.size()) return false;
    for (const Substep& s : row.substeps) {
      kicks[weights.size()] = s.part == Part::kKick;
      weights.push_back(s.coefficient);
    }
  }
  const DD n = steps;
  task.h = h;
  task.count_h = n.hi;
  task.count_l = n.lo;
  task.substeps = static_cast<int>(weights.size());
  task.weight = weights.data();
  task.is_kick = kicks.data();
  task.rounding = theta_rounding(row);
  task.table = angle_table().data();
  // pi to 159 bits.
  constexpr double kPiThird = -2.9947698097183397e-33;
  task.angle[0] = std::ldexp(kDDPi.hi, -7);
  task.angle[1] = std::ldexp(kDDPi.lo, -7);
  task.angle[2] = std::ldexp(kPiThird, -7);
  task.over_angle = 1.0 / task.angle[0];
  double sign = -1.0;
  for (std::size_t k = 0; k < 5; ++k, sign = -sign)
    put(task.sine_series[k], sign * dd_detail::kInvFactorial[2 * k + 3]);
  sign = -1.0;
  for (std::size_t k = 0; k < 6; ++k, sign = -sign)
    put(task.cosine_series[k], sign * dd_detail::kInvFactorial[2 * k + 2]);
  // (2k)! / (4^k (k!)^2 (2k + 1))
  DD central = 1.0;
  for (int k = 1; k <= 8; ++k) {
    central = central * (2.0 * k - 1.0) / (2.0 * k);
    put(task.arcsine_series[k - 1], central / (2.0 * k + 1.0));
  }
  return true;
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
                       bool forces, const ParallelFor& parallel, const DDKernels& kernels)
    : count_(static_cast<long>(lambda.size())), padded_((count_ + 7) / 8 * 8), forces_(forces) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  extremes_ = {0.0, kInfinity, -kInfinity};
  regular_.assign(u(padded_ / 8), 0);
  data_.resize(u(kArrays * padded_));
  const ModeArrays out{array(0),
                       array(1),
                       array(2),
                       array(3),
                       array(4),
                       array(5),
                       forces ? array(6) : nullptr,
                       forces ? array(7) : nullptr,
                       array(8),
                       forces ? array(9) : nullptr,
                       array(10),
                       regular_.data()};
  std::vector<double> weights;
  std::array<bool, 32> kicks{};
  ModeTask task{};
  const bool vectors = vector_task(row, h, steps, weights, kicks, task);
  const long blocks = (padded_ + kBlock - 1) / kBlock;
  struct Share {
    ModeExtremes extremes;
    std::vector<Odd> odd;
    std::string reason;
  };
  std::vector<Share> parts(u(blocks));
  run_blocks(parallel, blocks, [&](long block) {
    Share& part = parts[u(block)];
    part.extremes = extremes_;
    const long first = block * kBlock, last = std::min(padded_, first + kBlock);
    if (vectors) {
      double hi[kBlock], lo[kBlock];
      for (long j = first; j < last; ++j) {
        const DD value = lambda[u(std::min(j, count_ - 1))];  // the last eight are filled up
        hi[j - first] = value.hi;
        lo[j - first] = value.lo;
      }
      kernels.mode_powers(task, first, last, hi, lo, out, part.extremes);
    }
    for (long j = first; j < std::min(last, count_); ++j) {
      if (regular_[u(j / 8)] != 0) {
        j += 7;
        continue;
      }
      const DD value = lambda[u(j)], z = value * h * h;
      const StepMap step = row.has(Part::kFlow) || !isfinite(z) ? StepMap{} : step_map(row, z);
      Odd odd{j, false, mode_coefficients(value, h, steps, row, step, &part.reason), {}};
      const ModeAngle angle = mode_angle(row, z, step);
      odd.bound = mode_bound(value, h, steps, angle, odd.coefficients);
      odd.unstable = angle.unstable;
      ModeExtremes& e = part.extremes;
      e.phase = std::max(e.phase, phase_error(h, steps, angle, 0x1p-104 * std::fabs(value.hi)));
      e.lambda_min = std::min(e.lambda_min, value.hi);
      e.lambda_max = std::max(e.lambda_max, value.hi);
      part.odd.push_back(odd);
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
  if (!regular(j)) return odd(j).coefficients;
  ModeCoefficients c;
  const auto value = [&](int which) { return DD(array(which)[j], array(which + 1)[j]); };
  c.t = c.t_p = value(0);
  c.b = value(2);
  c.a1 = value(4);
  if (forces_) c.a2 = c.a2_p = value(6);
  return c;
}

ModeBound ModePowers::bound(long j) const {
  if (!regular(j)) return odd(j).bound;
  return {array(8)[j], forces_ ? array(9)[j] : 0.0, array(10)[j], 1.0};
}

std::vector<long> ModePowers::unstable() const {
  std::vector<long> modes;
  for (const Odd& o : odd_)
    if (o.unstable) modes.push_back(o.mode);
  return modes;
}

}  // namespace tinyphys
