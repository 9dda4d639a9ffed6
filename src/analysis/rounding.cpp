#include "analysis/rounding.hpp"

#include <cmath>

namespace tinyphys {
namespace {

constexpr double kUnit = 0x1p-53;

// A value and how far it may be from the same formula without rounding. What does not depend on the state is what the
// runtime makes of it, and exact.
struct Rounded {
  double value = 0, error = 0;
  bool fixed = true;
};

Rounded rounded(double value, double carried, bool fixed) {
  return {value, fixed ? 0 : carried + kUnit * std::fabs(value), fixed};
}
Rounded operator+(const Rounded& a, const Rounded& b) {
  return rounded(a.value + b.value, a.error + b.error, a.fixed && b.fixed);
}
Rounded operator-(const Rounded& a, const Rounded& b) {
  return rounded(a.value - b.value, a.error + b.error, a.fixed && b.fixed);
}
Rounded operator*(const Rounded& a, const Rounded& b) {
  const double carried = std::fabs(a.value) * b.error + a.error * std::fabs(b.value) + a.error * b.error;
  return rounded(a.value * b.value, carried, a.fixed && b.fixed);
}
bool operator>=(const Rounded& a, const Rounded& b) { return a.value >= b.value; }
bool operator<=(const Rounded& a, const Rounded& b) { return a.value <= b.value; }
bool operator==(const Rounded& a, const Rounded& b) { return a.value == b.value; }

}  // namespace

template <> struct Number<Rounded> {
  static Rounded from_double(double v) { return {v}; }
  static Rounded from_int(std::int64_t v) { return {static_cast<double>(v)}; }
  static double to_double(const Rounded& v) { return v.value; }
  static Rounded round_to(DType, const Rounded& v) { return v; }
  static Rounded unary(const Node* n, const Rounded& x) {
    const auto f = [n](double v) { return Number<double>::unary(n, v); };
    if (n->op == Op::NEG) return {-x.value, x.error, x.fixed};
    const double v = f(x.value);
    double carried = 0;
    if (x.error > 0)
      carried = std::max(std::fabs(f(x.value + x.error) - v), std::fabs(f(x.value - x.error) - v));
    return rounded(v, carried, x.fixed);
  }
  static Rounded binary(const Node* n, const Rounded& a, const Rounded& b) {
    switch (n->op) {
      case Op::ADD: return a + b;
      case Op::SUB: return a - b;
      case Op::MUL: return a * b;
      default: break;
    }
    const auto f = [n](double x, double y) { return Number<double>::binary(n, x, y); };
    const double v = f(a.value, b.value);
    double carried = 0;
    if (a.error > 0 || b.error > 0)
      for (const double x : {a.value - a.error, a.value + a.error})
        for (const double y : {b.value - b.error, b.value + b.error})
          carried = std::max(carried, std::fabs(f(x, y) - v));
    return rounded(v, carried, a.fixed && b.fixed);
  }
  static bool compare(const Node* n, const Rounded& a, const Rounded& b) {
    return Number<double>::compare(n, a.value, b.value);
  }
  static Rounded fma(const Rounded& a, const Rounded& b, const Rounded& c) { return a * b + c; }
  static dft::Complex<Rounded> turn(std::int64_t k, std::int64_t n) {
    const dft::Complex<double> x = tinyphys::turn<double>(k, n);
    return {from_double(x.re), from_double(x.im)};
  }
  static void add_to(Rounded& acc, const Rounded& x) { acc = acc + x; }
  static void add_product_to(Rounded& acc, const Rounded& a, const Rounded& b) { acc = acc + a * b; }
};

std::vector<double> rounding_of(
    const Node* program, const std::function<bool(std::int64_t param)>& is_state,
    const std::function<Value<double>(std::int64_t param, const Node* node)>& value) {
  const auto outputs = evaluate<Rounded>(program->src(), [&](const Node* n) -> std::optional<Value<Rounded>> {
    if (n->op != Op::PARAM) return std::nullopt;
    Value<double> given = value(n->arg(0), n);
    Value<Rounded> v{given.dtype, std::move(given.shape), {}, std::move(given.integer)};
    if (is_state(n->arg(0)))
      for (const double x : given.real) v.real.push_back({x, 0, false});
    else
      v.given = std::move(given.real);
    return v;
  });
  std::vector<double> out;
  for (const auto& o : outputs) {
    double most = 0;
    for (const Rounded& x : o.real) {
      const double e = std::isnan(x.value) ? x.value : x.error;
      if (!(e <= most)) most = e;  // NaN stays
      if (std::isnan(most)) break;
    }
    out.push_back(most);
  }
  return out;
}

}  // namespace tinyphys
