#include "derive/chebyshev_scan.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "linalg/chebyshev.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/storage.hpp"

namespace tinyphys {
namespace {

UOp given(std::span<const double> v, const Dims& shape) {
  StorageRef storage = StorageRef::allocate(v.size() * sizeof(double));
  const HostWrite values(*storage);
  std::copy(v.begin(), v.end(), values.as<double>());
  return buffer(DType::kFloat64, shape, std::move(storage));
}

UOp turned_back(const UOp& z) { return complex_of(imag_part(z), neg(real_part(z))); }  // -i z
// x times real numbers that broadcast to its shape: of a complex one each part, or what is 0 would be multiplied, too.
UOp times(const UOp& x, const UOp& numbers) {
  if (is_complex(x->dtype)) return complex_of(times(real_part(x), numbers), times(imag_part(x), numbers));
  return mul(x, broadcast_to(cast(numbers, x->dtype), x->shape()));
}
// Of each member; `first`: the first axis that is none of the batch.
UOp squared_norm(const UOp& x, std::size_t first) {
  const UOp y = cast(is_complex(x->dtype) ? as_real(x) : x, DType::kFloat64);
  Dims axes;
  for (std::size_t a = first; a < y->shape().size(); ++a) axes.push_back(static_cast<std::int64_t>(a));
  return sum(mul(y, y), axes);
}
// Whether it is true of all.
UOp of_all(const UOp& x) {
  Dims axes;
  for (std::size_t a = 0; a < x->shape().size(); ++a) axes.push_back(static_cast<std::int64_t>(a));
  return axes.empty() ? x : reduce(Reduction::kMin, x, axes);
}

void check(const BoundedOperator& h, const UOp& psi, double t, Exponential kind) {
  if (!(h.radius > 0) || !std::isfinite(h.radius) || !std::isfinite(h.centre))
    throw Error("chebyshev",
                "the spectrum within " + std::to_string(h.centre) + " +- " + std::to_string(h.radius), "", 0);
  if (!std::isfinite(t) || (kind == Exponential::kDecay && t < 0))
    throw Error("chebyshev", "the time is " + std::to_string(t), "", 0);
  if (!(is_complex(psi->dtype) || (kind == Exponential::kDecay && is_float(psi->dtype))))
    throw Error("chebyshev", "psi is " + std::string(name(psi->dtype)), "", 0);
}

}  // namespace

ChebyshevSum chebyshev_exponential(const BoundedOperator& h, const UOp& psi, double t, Exponential kind,
                                   double tol) {
  ChebyshevSum one = chebyshev_exponential(h, psi, std::span(&t, 1), kind, tol);
  one.value = index_axis(one.value, 0, 0);
  return one;
}

ChebyshevSum chebyshev_exponential(const BoundedOperator& h, const UOp& psi, std::span<const double> times_of,
                                   Exponential kind, double tol) {
  const bool phase = kind == Exponential::kPhase;
  std::vector<std::vector<double>> series;  // of each time
  std::size_t terms = 0;
  for (const double t : times_of) {
    check(h, psi, t, kind);
    std::vector<double> c =
        phase ? bessel_j(std::fabs(h.radius * t), tol) : scaled_bessel_i(h.radius * t, tol);
    // (2 - delta_k0) J_k, of a negative t with the sign of J_k(-x) = (-1)^k J_k(x).
    for (std::size_t k = 1; k < c.size(); ++k) c[k] *= phase && t < 0 && k % 2 != 0 ? -2 : 2;
    terms = std::max(terms, c.size());
    series.push_back(std::move(c));
  }
  const std::size_t n_times = series.size();
  std::vector<double> c(terms * n_times, 0.0);  // [terms, times]
  for (std::size_t j = 0; j < n_times; ++j)
    for (std::size_t k = 0; k < series[j].size(); ++k) c[k * n_times + j] = series[j][k];
  // Several times are a leading axis, of all they make; one has none, so that it shares its kernel with what it adds up.
  const bool several = n_times > 1;
  Dims of_times, all(psi->shape().begin(), psi->shape().end());
  if (several) {
    of_times.push_back(static_cast<std::int64_t>(n_times));
    all.insert(all.begin(), of_times[0]);
  }
  // x times a number for each time.
  const auto at_times = [&](const UOp& x, const UOp& row) {
    Dims column(all.size(), 1);
    if (several) column[0] = of_times[0];
    const UOp numbers = several ? reshape(row, column) : row;
    return times(broadcast_to(x, all), numbers);
  };
  const auto rows_of = [&](std::int64_t count) {
    Dims shape{count};
    shape.insert(shape.end(), of_times.begin(), of_times.end());
    return shape;
  };
  ChebyshevSum out;
  out.terms = terms;
  for (std::size_t j = 0; j < n_times; ++j) {
    // Beyond k > x each J_k, I_k is less than the one before by this factor, and those after by less still.
    const double x = std::fabs(h.radius * times_of[j]),
                 k = std::max(static_cast<double>(series[j].size()), x + 1);
    const double factor = x / (k + std::sqrt(phase ? k * k - x * x : k * k + x * x));
    const double last = std::fabs(series[j].back());
    out.last = std::max(out.last, last);
    // Those that follow; of a series that ends before x the last one stands for the first of them.
    const double next = static_cast<double>(series[j].size()) > x ? last * factor : last;
    out.left_out = std::max(out.left_out, next / (1 - factor));
  }
  const auto number = [&](double v) { return constant(v, DType::kFloat64); };

  UOp sum = at_times(psi, given(std::span(c).first(n_times), of_times)), last = psi;
  if (terms > 1) {
    ScanParts loop;
    loop.steps = constant_int(static_cast<std::int64_t>(terms) - 1);
    for (int i = 0; i < 2; ++i) loop.carry_params.push_back(symbol_like(psi.get()));
    loop.carry_params.push_back(symbol_like(sum.get()));
    loop.carry = {zeros_like(psi), psi, sum};
    // phi_1 = Hn phi_0 without the factor 2.
    const auto steps = static_cast<std::int64_t>(terms) - 1;
    std::vector<double> factor(terms - 1, 2.0);
    factor[0] = 1;
    loop.xs = {given(std::span(c).subspan(n_times), rows_of(steps)), given(factor, {steps})};
    for (const UOp& x : loop.xs) loop.row_params.push_back(symbol_of_row(x.get()));
    const UOp before = loop.carry_params[0], now = loop.carry_params[1], total = loop.carry_params[2];
    const UOp applied = h.apply(now);
    if (applied->dtype != psi->dtype || !same_shape(applied.get(), psi.get()))
      throw Error("chebyshev",
                  "H psi is " + std::string(name(applied->dtype)) + shape_text(applied->shape()) +
                      ", psi is " + std::string(name(psi->dtype)) + shape_text(psi->shape()),
                  "", 0);
    const UOp scaled_h =
        times(sub(applied, times(now, number(h.centre))), mul(loop.row_params[1], number(1 / h.radius)));
    const UOp next = phase ? add(turned_back(scaled_h), before) : sub(neg(scaled_h), before);
    loop.next = {now, next, add(total, at_times(next, loop.row_params[0]))};
    const UOp scan = make_scan(loop);
    out.loop = scan;
    last = get(scan, 1);
    sum = get(scan, 2);
  }

  // |T_k| <= 1 within the bounds. Rounding: a few units a term, and tol for what is left out.
  const double slack =
      1e-12 + 100 * tol +
      (real_dtype(psi->dtype) == DType::kFloat32 ? 1e-5 : 4e-15) * static_cast<double>(terms);
  const UOp of_start = squared_norm(psi, h.batch_axes), of_last = squared_norm(last, h.batch_axes);
  const UOp of_sum = squared_norm(sum, h.batch_axes + (several ? 1 : 0));
  // a <= factor b, for all members and times.
  const auto at_most = [&](const UOp& a, const UOp& b, double factor) {
    const UOp limit = broadcast_to(times(b, number(factor)),
                                   a->shape().size() > b->shape().size() ? a->shape() : b->shape());
    return of_all(compare(Op::LE, broadcast_to(a, limit->shape()), limit));
  };
  constexpr double kGrown = 1.0 + 1e-3;  // of the last term: rounding is far below, what is outside far above
  UOp holds = make(Op::AND, {at_most(of_sum, of_start, 1 + 2 * slack), at_most(of_last, of_start, kGrown)});
  if (phase) holds = make(Op::AND, {holds, at_most(of_start, of_sum, 1 / (1 - 2 * slack))});
  UOp value = make(Op::CHECK, {sum, holds}, {static_cast<std::int64_t>(CheckKind::kSeriesHolds)});
  if (phase && !several) {
    // The series is that of the time |R t| rounded times 1 / R rounded. For R t = 1e5 what is missing turns psi by 1e-11.
    const double t = times_of[0], rounded = std::fabs(h.radius * t), by = 1 / h.radius,
                 product = rounded * by;
    const double missing = (t < 0 ? -1 : 1) * ((std::fabs(t) - product) - std::fma(rounded, by, -product));
    if (std::fabs(missing) * h.radius > 0.1 * tol) {
      const UOp applied = h.apply(value);
      value = add(value, times(turned_back(sub(applied, times(value, number(h.centre)))), number(missing)));
    }
  }
  if (phase) {
    std::vector<double> cosines, sines;
    for (const double t : times_of) {
      const double angle = h.centre * t, rest = std::fma(h.centre, t, -angle);
      cosines.push_back(std::cos(angle) - rest * std::sin(angle));
      sines.push_back(std::sin(angle) + rest * std::cos(angle));
    }
    value =
        add(at_times(value, given(cosines, of_times)), at_times(turned_back(value), given(sines, of_times)));
  }
  Dims whole(psi->shape().begin(), psi->shape().end());
  whole.insert(whole.begin(), static_cast<std::int64_t>(n_times));
  out.value = reshape(value, whole);
  return out;
}

}  // namespace tinyphys
