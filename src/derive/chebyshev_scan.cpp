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

UOp given(const std::vector<double>& v) {
  StorageRef storage = StorageRef::allocate(v.size() * sizeof(double));
  const HostWrite values(*storage);
  std::copy(v.begin(), v.end(), values.as<double>());
  return buffer(DType::kFloat64, Dims{static_cast<std::int64_t>(v.size())}, std::move(storage));
}

UOp turned_back(const UOp& z) { return complex_of(imag_part(z), neg(real_part(z))); }  // -i z
UOp times(const UOp& x, const UOp& number) {
  return mul(x, broadcast_to(cast(number, x->dtype), x->shape()));
}
UOp squared_norm(const UOp& x) {
  const UOp y = cast(is_complex(x->dtype) ? as_real(x) : x, DType::kFloat64);
  return dot(y, y);
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
  check(h, psi, t, kind);
  const bool phase = kind == Exponential::kPhase;
  std::vector<double> c;
  if (phase) {
    // (2 - delta_k0) J_k, of a negative t with the sign of J_k(-x) = (-1)^k J_k(x).
    c = bessel_j(std::fabs(h.radius * t), tol);
    for (std::size_t k = 1; k < c.size(); ++k) c[k] *= t < 0 && k % 2 != 0 ? -2 : 2;
  } else {
    c = scaled_bessel_i(h.radius * t, tol);
    for (std::size_t k = 1; k < c.size(); ++k) c[k] *= 2;
  }
  ChebyshevSum out;
  out.terms = c.size();
  out.last = std::fabs(c.back());
  const auto number = [&](double v) { return constant(v, DType::kFloat64); };

  UOp sum = times(psi, number(c[0])), last = psi;
  if (c.size() > 1) {
    ScanParts loop;
    loop.steps = constant_int(static_cast<std::int64_t>(c.size()) - 1);
    for (int i = 0; i < 3; ++i) loop.carry_params.push_back(symbol_like(psi.get()));
    loop.carry = {zeros_like(psi), psi, sum};
    // phi_1 = Hn phi_0 without the factor 2.
    std::vector<double> factor(c.size() - 1, 2.0), rest(c.begin() + 1, c.end());
    factor[0] = 1;
    loop.xs = {given(rest), given(factor)};
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
    loop.next = {now, next, add(total, times(next, loop.row_params[0]))};
    const UOp scan = make_scan(loop);
    last = get(scan, 1);
    sum = get(scan, 2);
  }

  // |T_k| <= 1 within the bounds. Rounding: a few units a term, and tol for what is left out.
  const double slack =
      1e-12 + 100 * tol +
      (real_dtype(psi->dtype) == DType::kFloat32 ? 1e-5 : 4e-15) * static_cast<double>(c.size());
  const UOp of_start = squared_norm(psi), of_sum = squared_norm(sum), of_last = squared_norm(last);
  const auto at_most = [&](const UOp& a, double factor) {
    return compare(Op::LE, a, times(of_start, number(factor)));
  };
  constexpr double kGrown = 1.0 + 1e-3;  // of the last term: rounding is far below, what is outside far above
  UOp holds = make(Op::AND, {at_most(of_sum, 1 + 2 * slack), at_most(of_last, kGrown)});
  if (phase) holds = make(Op::AND, {holds, compare(Op::LE, times(of_start, number(1 - 2 * slack)), of_sum)});
  UOp value = make(Op::CHECK, {sum, holds}, {static_cast<std::int64_t>(CheckKind::kSeriesHolds)});
  if (phase) {
    const double angle = -h.centre * t;
    value = sub(times(value, number(std::cos(angle))), times(turned_back(value), number(std::sin(angle))));
  }
  out.value = value;
  return out;
}

}  // namespace tinyphys
