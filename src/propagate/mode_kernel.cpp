#include "propagate/mode_kernel.hpp"

#include <array>
#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include "derive/double_double.hpp"
#include "propagate/host_kernel.hpp"
#include "rewrite/rewrite.hpp"
#include "uop/build.hpp"

namespace tinyphys {
namespace {

constexpr std::array<std::int64_t, 1> kBlockShape{kModeBlock};
// Half a step turns by at least this; half of all steps by at most that; lambda is above this.
constexpr double kMinSine = 1e-75, kMaxAngle = 0x1p40, kTiny = 1e-200;
constexpr std::size_t kMostSubsteps = 32;

enum Input : std::int64_t { kLambdaHigh, kLambdaLow, kTable, kStep, kCountHigh, kCountLow, kUnit, kWeights };

bool is_midpoint(const IntegratorRow& row) {
  return row.substeps.size() == 1 && row.substeps[0].part == Part::kSolve &&
         row.substeps[0].coefficient == 1.0;
}

// Of a value that may be 0 without an operation for it: null.
UOp plus(const UOp& a, const UOp& b) { return !a ? b : !b ? a : add(a, b); }
UOp minus(const UOp& a, const UOp& b) { return !b ? a : !a ? neg(b) : sub(a, b); }
UOp times(const UOp& a, const UOp& b) { return a && b ? mul(a, b) : UOp(); }

class ModeFormulas {
 public:
  ModeFormulas(const IntegratorRow& row, bool forces)
      : table_(param(kTable, DType::kFloat64, std::array<std::int64_t, 1>{kAngleTable})),
        lambda_(param(kLambdaHigh, DType::kFloat64, kBlockShape)),
        h_(number_param(kStep)),
        count_(number_param(kCountHigh)),
        unit_(number_param(kUnit)),
        one_(full_like(lambda_, 1.0)),
        dd_(table_) {
    dd_.set(lambda_, {lambda_, param(kLambdaLow, DType::kFloat64, kBlockShape)});
    dd_.set(count_, {count_, number_param(kCountLow)});
    const bool flow = row.has(Part::kFlow);
    if (flow)
      half_step_of_flow();
    else
      half_step_of(row);
    const UOp angle = mul(half_, count_);
    const UOp sine = unary(Op::SIN, angle), cosine = unary(Op::COS, angle);
    const UOp s2 = mul(sine, sine);
    // U_{N-1} h; of a flow, sin(omega t) / omega.
    UOp u = div(mul(sine, cosine), flow ? half_sine_ : mul(half_sine_, half_cosine_));
    u = flow ? mul(u, where(compare(Op::LT, h_, scaled(one_, 0.0)), scaled(one_, -2.0), scaled(one_, 2.0)))
             : mul(u, h_);
    pair(sub(one_, scaled(s2, 2.0)));
    pair(flow ? u : mul(b_, u));
    pair(flow ? u : mul(c_, u));
    // As ModeBound: plain doubles, of the high words. `size` is sqrt(sigma), which for a flow is theta / 2.
    const UOp size = dd_.high(flow ? half_ : half_sine_);
    const UOp over = flow ? one_ : div(one_, dd_.high(half_cosine_));
    const UOp slant = least(over, largest(count_, one_)), under = div(one_, size);
    const UOp u_n = least(count_, mul(scaled(slant, 0.5), under));
    const UOp reach = flow ? one_ : largest(size_of(dd_.high(b_)), size_of(dd_.high(c_)));
    const UOp turn = mul(mul(mul(scaled(count_, 2.0), size), slant), unit_);
    single(mul(mul(size_of(h_), reach), u_n));
    single(add(scaled(unit_, 8.0), turn));
    const UOp curve = flow ? scaled(one_, 0.25) : dd_.high(curve_);
    const UOp gain = largest(size_of(curve), size_of(slope_));
    const UOp lever = least(under, add(count_, count_));
    const UOp off = scaled(size_of(dd_.high(lambda_)), 0x1p-104), h2 = mul(h_, h_);
    single(add(mul(mul(mul(mul(count_, h2), off), gain), mul(lever, slant)), turn));
    // Which keep to the formulas: an angle theta / 2 between 0 and pi / 4 (of a flow, any), an N theta / 2 that its reduction
    // can hold, nothing near the ends of the range.
    const auto below = [&](double limit, const UOp& x) { return compare(Op::LT, full_like(x, limit), x); };
    const auto within = [&](const UOp& x, double limit) { return compare(Op::LT, x, full_like(x, limit)); };
    UOp regular = make(Op::AND, {below(kMinSine, size), within(size, flow ? kMaxAngle : 0.7)});
    regular = make(Op::AND, {regular, within(dd_.high(angle), kMaxAngle)});
    regular = make(Op::AND, {regular, below(kTiny, dd_.high(lambda_))});
    single(where(regular, one_, scaled(one_, 0.0)));
    if (!forces) return;
    pair(div(scaled(s2, 2.0), lambda_));
    single(mul(mul(scaled(h2, 2.0), size_of(curve)), least(mul(count_, count_), mul(under, under))));
  }

  // In the order of ModeOutput.
  UOp kernel(std::int64_t n_params) const {
    UOp lambda = make(Op::LAMBDA, std::span<const UOp>(outputs_), std::array{n_params});
    return simplify(lambda);
  }

 private:
  static UOp number_param(std::int64_t index) {
    return broadcast_to(param(index, DType::kFloat64, {}, true), kBlockShape);
  }
  static UOp size_of(const UOp& x) { return unary(Op::ABS, x); }
  static UOp largest(const UOp& a, const UOp& b) { return make(Op::MAX, {a, b}); }
  static UOp least(const UOp& a, const UOp& b) { return make(Op::MIN, {a, b}); }
  void pair(const UOp& x) {
    outputs_.push_back(dd_.high(x));
    outputs_.push_back(dd_.low(x));
  }
  void single(const UOp& x) { outputs_.push_back(x); }

  void half_step_of_flow() {
    half_sine_ = unary(Op::SQRT, lambda_);
    half_ = scaled(mul(half_sine_, size_of(h_)), 0.5);
    slope_ = scaled(one_, 0.25);
  }
  void half_step_of(const IntegratorRow& row) {
    const UOp z = mul(mul(lambda_, h_), h_);
    if (is_midpoint(row)) {
      const UOp inverse = div(one_, add(scaled(z, 0.25), one_));
      b_ = c_ = inverse;
      curve_ = scaled(inverse, 0.25);
      half_cosine_ = unary(Op::SQRT, inverse);
      const UOp high = dd_.high(inverse);
      slope_ = scaled(mul(high, high), 0.25);
    } else {
      // [[1 + z a, h b], [-lambda h c, 1 + z d]], and the slopes in z.
      UOp a, d, da, db, dc, dd;
      const auto high = [&](const UOp& x) { return x ? dd_.high(x) : UOp(); };
      const UOp zh = dd_.high(z);
      const auto diagonal = [&](const UOp& x) { return x ? add(mul(z, x), one_) : one_; };
      std::int64_t next = kWeights;
      for (const Substep& s : row.substeps) {
        const UOp w = number_param(next++);
        if (s.part == Part::kKick) {
          dc = plus(dc, times(w, plus(times(zh, da), high(a))));
          dd = minus(dd, times(w, db));
          c_ = plus(times(diagonal(a), w), c_);
          d = minus(d, times(b_, w));
        } else {
          da = minus(da, times(w, dc));
          db = plus(db, times(w, plus(times(zh, dd), high(d))));
          a = minus(a, times(c_, w));
          b_ = plus(times(diagonal(d), w), b_);
        }
      }
      curve_ = scaled(plus(a, d), -0.25);
      half_cosine_ = unary(Op::SQRT, sub(one_, mul(z, curve_)));
      const UOp bent = plus(da, dd);
      slope_ = minus(high(curve_), bent ? mul(scaled(zh, 0.25), bent) : UOp());
    }
    half_sine_ = unary(Op::SQRT, mul(z, curve_));
    half_ = unary(Op::ASIN, half_sine_);
  }

  UOp table_, lambda_, h_, count_, unit_, one_;
  DoubleDouble dd_;
  UOp half_, half_sine_, half_cosine_, b_, c_, curve_, slope_;  // theta / 2, of the step map, sigma / z
  std::vector<UOp> outputs_;
};

class GeneratedModeKernel final : public ModeKernel {
 public:
  GeneratedModeKernel(const IntegratorRow& row, bool forces) {
    if (!row.has(Part::kFlow) && !is_midpoint(row))
      for (const Substep& s : row.substeps) weights_.push_back(s.coefficient);
    const auto n_params = kWeights + static_cast<std::int64_t>(weights_.size());
    kernel_ = host_kernel(ModeFormulas(row, forces).kernel(n_params));
    n_outputs_ = forces ? kModeOutputs : kModeOutputsWithoutForces;
  }
  void run(double h, std::int64_t steps, double unit, const double* lambda_h, const double* lambda_l,
           std::span<double* const> outputs) const override {
    const DD n = steps;
    std::array<const void*, kWeights + kMostSubsteps> inputs{lambda_h, lambda_l, angle_table().data()};
    std::array<std::int64_t, kWeights + kMostSubsteps> scalars{};
    const auto set = [&](std::size_t i, double v) { scalars[i] = std::bit_cast<std::int64_t>(v); };
    set(kStep, h);
    set(kCountHigh, n.hi);
    set(kCountLow, n.lo);
    set(kUnit, unit);
    for (std::size_t i = 0; i < weights_.size(); ++i) set(kWeights + i, weights_[i]);
    std::array<void*, kModeOutputs> to{};
    for (std::size_t i = 0; i < n_outputs_; ++i) to[i] = outputs[i];
    const std::size_t n_params = kWeights + weights_.size();
    kernel_->run(std::span(to).first(n_outputs_), std::span(inputs).first(n_params),
                 std::span(scalars).first(n_params));
  }

 private:
  std::vector<double> weights_;
  std::size_t n_outputs_ = 0;
  std::shared_ptr<const HostKernel> kernel_;
};

}  // namespace

std::shared_ptr<const ModeKernel> mode_kernel(const IntegratorRow& row, bool forces) {
  if (!row.has(Part::kFlow) && !is_midpoint(row) &&
      (!row.symmetric() || row.has(Part::kSolve) || row.substeps.size() > kMostSubsteps))
    return nullptr;
  struct Known {
    std::mutex mutex;
    std::map<std::pair<const IntegratorRow*, bool>, std::shared_ptr<const ModeKernel>> kernels;
  };
  static auto* known = new Known;  // outlives static handles
  std::lock_guard lock(known->mutex);
  auto& kernel = known->kernels[{&row, forces}];
  if (!kernel) kernel = std::make_shared<GeneratedModeKernel>(row, forces);
  return kernel;
}

}  // namespace tinyphys
