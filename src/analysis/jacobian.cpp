#include "analysis/jacobian.hpp"

#include <cmath>
#include <stdexcept>

namespace tinyphys {
namespace {

struct Entry {
  std::int64_t col;
  DD coefficient;
};

// value + sum of coefficient * e_col, to first order.
struct Dual {
  DD value{0.0, 0.0};
  std::vector<Entry> row;  // ascending columns
};

struct NotAffine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void add_scaled(std::vector<Entry>& acc, const std::vector<Entry>& x, const DD& scale) {
  if (x.empty()) return;
  if (acc.empty() || acc.back().col < x.front().col) {  // rows of a matrix arrive in order: append
    for (const Entry& e : x) acc.push_back({e.col, e.coefficient * scale});
    return;
  }
  std::vector<Entry> sum;
  sum.reserve(acc.size() + x.size());
  auto a = acc.begin();
  auto b = x.begin();
  while (a != acc.end() || b != x.end()) {
    if (b == x.end() || (a != acc.end() && a->col < b->col))
      sum.push_back(*a++);
    else if (a == acc.end() || b->col < a->col) {
      sum.push_back({b->col, b->coefficient * scale});
      ++b;
    } else {
      sum.push_back({a->col, a->coefficient + b->coefficient * scale});
      ++a;
      ++b;
    }
  }
  acc.swap(sum);
}

std::vector<Entry> scaled(const std::vector<Entry>& x, const DD& s) {
  std::vector<Entry> r = x;
  for (Entry& e : r) e.coefficient = e.coefficient * s;
  return r;
}

}  // namespace

template <> struct Number<Dual> {
  static Dual from_double(double v) { return {DD(v), {}}; }
  static Dual from_int(std::int64_t v) { return {Number<DD>::from_int(v), {}}; }
  static double to_double(const Dual& v) { return v.value.hi; }
  static Dual round_to(DType, Dual v) { return v; }
  static Dual unary(const Node* n, const Dual& x) {
    if (n->op == Op::NEG) return {-x.value, scaled(x.row, DD(-1.0))};
    if (x.row.empty()) return {Number<DD>::unary(n, x.value), {}};
    if (n->op == Op::POWI) {
      const std::int64_t k = n->arg(0);
      if (k == 0) return from_double(1.0);
      const DD slope = Number<DD>::from_int(k) * Number<DD>::power(x.value, k - 1);
      return {Number<DD>::power(x.value, k), scaled(x.row, slope)};
    }
    throw NotAffine(std::string(name(n->op)) + " of the state");
  }
  static Dual binary(const Node* n, const Dual& a, const Dual& b) {
    if (a.row.empty() && b.row.empty()) return {Number<DD>::binary(n, a.value, b.value), {}};
    switch (n->op) {
      case Op::ADD: {
        Dual r{a.value + b.value, a.row};
        add_scaled(r.row, b.row, DD(1.0));
        return r;
      }
      case Op::SUB: {
        Dual r{a.value - b.value, a.row};
        add_scaled(r.row, b.row, DD(-1.0));
        return r;
      }
      case Op::MUL: {
        Dual r{a.value * b.value, scaled(a.row, b.value)};
        add_scaled(r.row, b.row, a.value);
        return r;
      }
      case Op::DIV:
        if (b.row.empty()) {
          Dual r{a.value / b.value, a.row};
          for (Entry& e : r.row) e.coefficient = e.coefficient / b.value;
          return r;
        }
        [[fallthrough]];
      default: throw NotAffine(std::string(name(n->op)) + " of the state");
    }
  }
  static bool compare(const Node* n, const Dual& a, const Dual& b) {
    if (!a.row.empty() || !b.row.empty()) throw NotAffine("a comparison of the state");
    return Number<DD>::compare(n, a.value, b.value);
  }
  static Dual fma(const Dual& a, const Dual& b, Dual c) {
    add_product_to(c, a, b);
    return c;
  }
  static dft::Complex<Dual> turn(std::int64_t k, std::int64_t n) {
    const dft::Complex<DD> x = tinyphys::turn<DD>(k, n);
    return {{x.re, {}}, {x.im, {}}};
  }
  static void add_to(Dual& acc, const Dual& x) {
    acc.value = acc.value + x.value;
    add_scaled(acc.row, x.row, DD(1.0));
  }
  static void add_product_to(Dual& acc, const Dual& a, const Dual& b) {
    acc.value = acc.value + a.value * b.value;
    add_scaled(acc.row, a.row, b.value);
    add_scaled(acc.row, b.row, a.value);
  }
};

namespace {

// For the reductions and running sums of the evaluator.
Dual operator+(const Dual& a, const Dual& b) {
  Dual r = a;
  Number<Dual>::add_to(r, b);
  return r;
}
Dual operator-(const Dual& a, const Dual& b) {
  Dual r = a;
  r.value = r.value - b.value;
  add_scaled(r.row, b.row, DD(-1.0));
  return r;
}
Dual operator*(const Dual& a, const Dual& b) {
  Dual r;
  Number<Dual>::add_product_to(r, a, b);
  return r;
}

}  // namespace

AffineForm extract_affine(const Node* body, std::span<const StateGroup> params, const ParamValue& value,
                          std::span<const std::int64_t> columns) {
  AffineForm out;
  std::vector<std::int64_t> first_column(params.size(), -1);
  std::vector<const Node*> by_param(params.size(), nullptr);
  for (Node* n : toposort(body->src()))
    if (n->op == Op::PARAM && static_cast<std::size_t>(n->arg(0)) < params.size())
      by_param[static_cast<std::size_t>(n->arg(0))] = n;
  // Columns are numbered over all state params, those a body ignores included: their sizes come from the outputs
  // that mirror them.
  for (std::size_t i = 0; i < params.size(); ++i) {
    if (params[i] == StateGroup::kNone) continue;
    first_column[i] = out.n_state;
    const Node* like = by_param[i] ? by_param[i] : i < body->n_src ? body->src(i) : nullptr;
    if (like) out.n_state += like->size();
  }
  std::vector<GraphEvaluator<Dual>::Ref> outputs;
  try {
    outputs = GraphEvaluator<Dual>(body->src()).run([&](const Node* n) -> std::optional<Value<Dual>> {
      if (n->op != Op::PARAM) return std::nullopt;
      const auto i = static_cast<std::size_t>(n->arg(0));
      Value<Dual> v;
      v.dtype = n->dtype;
      v.shape = shape_of(n);
      if (i < params.size() && params[i] != StateGroup::kNone) {
        v.real.resize(static_cast<std::size_t>(n->size()));
        const auto seed = [&](std::int64_t k) {
          v.real[static_cast<std::size_t>(k)].row = {{first_column[i] + k, DD(1.0)}};
        };
        if (columns.empty())
          for (std::int64_t k = 0; k < n->size(); ++k) seed(k);
        for (std::int64_t c : columns)
          if (c >= first_column[i] && c < first_column[i] + n->size()) seed(c - first_column[i]);
        return v;
      }
      Value<double> plain = value(n->arg(0), n);
      v.integer = std::move(plain.integer);
      v.given = std::move(plain.real);
      return v;
    });
  } catch (const NotAffine& e) {
    out.reason = e.what();
    return out;
  }
  out.row_start.push_back(0);
  for (const auto& o : outputs)
    for (const Dual& d : o->real) {
      bool finite = std::isfinite(d.value.hi);
      for (const Entry& e : d.row) {
        finite &= std::isfinite(e.coefficient.hi);
        if (e.coefficient.hi == 0) continue;
        out.col.push_back(e.col);
        out.value.push_back(e.coefficient);
      }
      out.row_start.push_back(static_cast<std::int64_t>(out.col.size()));
      out.offset.push_back(d.value);
      if (!finite && out.reason.empty()) out.reason = "a coefficient is not finite";
    }
  return out;
}

}  // namespace tinyphys
