#include "passes/fast_modes.hpp"

#include <algorithm>
#include <cmath>

#include "linalg/dense.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// Elements looked at to know what is captured.
constexpr std::int64_t kMostElements = 1 << 20;

// Rows first .. first + n - 1 of a form, columns from `column` on, as a dense matrix; what lies outside is told.
std::vector<double> block(const AffineForm& f, std::int64_t first, std::int64_t column, std::int64_t n,
                          bool& outside) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<double> m(at(n * n), 0.0);
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t k = f.row_start[at(first + r)]; k < f.row_start[at(first + r + 1)]; ++k) {
      const std::int64_t c = f.col[at(k)] - column;
      if (c >= 0 && c < n)
        m[at(r * n + c)] = f.value[at(k)].hi;
      else
        outside = true;
    }
  return m;
}

}  // namespace

std::optional<Value<double>> known_value(Node* n) {
  if (n->flags & (Node::kHasSym | Node::kHasParam)) return {};
  std::int64_t elements = 0;
  for (const Node* x : toposort(std::span<Node* const>(&n, 1), [](const Node* y) { return storage(y); })) {
    elements += x->size();
    const bool there = storage(x) != nullptr;
    if (!there && (is_loop(x->op) || x->op == Op::BUFFER)) return {};
    if (elements > kMostElements) return {};
  }
  try {
    return evaluate<double>(UOp::share(n), [](const Node* x) -> std::optional<Value<double>> {
      const Storage* s = storage(x);
      if (!s || x->op == Op::BUFFER) return {};
      const UOp data = buffer(x->dtype, x->shape(), StorageRef::share(const_cast<Storage*>(s)));
      return evaluate<double>(data);
    });
  } catch (const Error&) {
    return {};
  }
}

KnownValues::KnownValues(std::span<Node* const> captured) {
  for (Node* n : captured) {
    std::optional<Value<double>> v = known_value(n);
    if (!v) {
      unknown_ = "what H captures is not known here";
      return;
    }
    values_.push_back(std::move(*v));
  }
}

ParamValue KnownValues::by_param() const {
  return [this](std::int64_t i, const Node*) { return values_[static_cast<std::size_t>(i - 2)]; };
}

FastModes fast_modes(const Node* forces, const Node* other, std::int64_t n, const KnownValues& values,
                     bool bound_only) {
  FastModes out;
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  if (!values.unknown().empty()) {
    out.refused = values.unknown();
    return out;
  }
  if (n > kMostModes) {
    out.refused = std::to_string(n) + " coordinates, which is more than " + std::to_string(kMostModes);
    return out;
  }
  std::vector<StateGroup> groups(static_cast<std::size_t>(forces->arg(0)), StateGroup::kNone);
  groups[0] = StateGroup::kQ;
  groups[1] = StateGroup::kP;
  const AffineForm f = extract_affine(forces, groups, values.by_param());
  bool outside = false;
  if (f.reason.empty() && f.n_state == 2 * n) {
    std::vector<double> s = block(f, 0, 0, n, outside);
    const std::vector<double> inverse_mass = block(f, n, n, n, outside);
    std::vector<double> root(at(n));
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < n; ++k) {
        const double m = inverse_mass[at(i * n + k)];
        if (i != k && m != 0) out.refused = "the masses are a matrix";
        if (i != k) continue;
        if (!(m >= 0)) out.refused = "a mass is negative";
        root[at(i)] = std::sqrt(m);
      }
    if (outside) out.refused = "q and p are joined";
    if (!out.refused.empty()) return out;
    for (std::int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < n; ++k) sum += std::fabs(s[at(i * n + k)]);
      out.row_sum = std::max(out.row_sum, sum * root[at(i)] * root[at(i)]);
    }
    if (bound_only) return out;
    const auto weigh = [&](std::vector<double>& m) {
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t k = 0; k < n; ++k) m[at(i * n + k)] *= root[at(i)] * root[at(k)];
    };
    weigh(s);
    out.omega_square.resize(at(n));
    out.refused = symmetric_eigen(static_cast<long>(n), s.data(), out.omega_square.data());
    if (!out.refused.empty() || !other) return out;
    groups.resize(static_cast<std::size_t>(other->arg(0)), StateGroup::kNone);
    const AffineForm w = extract_affine(other, groups, values.by_param());
    if (!w.reason.empty()) return out;
    std::vector<double> m = block(w, 0, 0, n, outside);
    if (outside) return out;
    weigh(m);
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t k = 0; k < n; ++k) sum += s[at(j * n + i)] * m[at(i * n + k)] * s[at(j * n + k)];
      out.other.push_back(sum);
    }
    return out;
  }
  out.refused = f.reason.empty() ? "the forces do not have the shape of the state" : f.reason;
  return out;
}

}  // namespace tinyphys
