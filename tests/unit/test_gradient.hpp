// What the transform tests share: graphs over symbols, evaluated at given values.
#pragma once

#include <cmath>
#include <complex>
#include <functional>
#include <optional>
#include <random>
#include <vector>

#include "derive/scan_tape.hpp"
#include "uop/build.hpp"
#include "uop/evaluate.hpp"
#include "uop/graph.hpp"

namespace tinyphys::testing {

using Row = std::vector<double>;

// Values of the leaves of a graph.
class Bench {
 public:
  UOp input(Dims shape, Row values) {
    UOp s = symbol(DType::kFloat64, shape);
    set(s, std::move(values));
    return s;
  }
  UOp integers(Dims shape, std::vector<std::int64_t> values) {
    UOp s = symbol(DType::kInt64, shape);
    Value<double> v;
    v.dtype = DType::kInt64;
    v.shape = std::move(shape);
    v.integer = std::move(values);
    values_.insert(s.get(), std::move(v));
    return s;
  }
  void set(const UOp& s, Row values) {
    Value<double> v;
    v.shape = shape_of(s.get());
    v.real = std::move(values);
    values_[s.get()] = std::move(v);
  }
  const Row& at(const UOp& s) const { return values_.at(s.get()).real; }

  // Derivative calls are lowered before: the evaluator runs only scans.
  std::vector<Row> run(std::vector<UOp> roots) const {
    roots = lower_vjps(roots);
    std::vector<Node*> nodes;
    for (const UOp& r : roots) nodes.push_back(r.get());
    const Leaf<double> leaf = [&](const Node* n) -> std::optional<Value<double>> {
      const auto* v = values_.find(n);
      return v ? std::optional(*v) : std::nullopt;
    };
    std::vector<Row> out;
    for (auto& v : evaluate<double>(std::span<Node* const>(nodes), leaf)) out.push_back(std::move(v.real));
    return out;
  }
  Row run(const UOp& root) const { return run(std::vector<UOp>{root}).front(); }

 private:
  NodeMap<Value<double>> values_;
};

inline double inner(const Row& a, const Row& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

// Uniform in [low, high].
inline Row random_row(std::mt19937_64& rng, std::size_t n, double low, double high) {
  std::uniform_real_distribution<double> uniform(low, high);
  Row r(n);
  for (double& v : r) v = uniform(rng);
  return r;
}

// n values at least 0.1 apart, shuffled: no ties for max and min.
inline Row spread_row(std::mt19937_64& rng, std::size_t n, double low) {
  Row r(n);
  for (std::size_t i = 0; i < n; ++i) r[i] = low + 0.1 * static_cast<double>(i) + 0.03;
  std::shuffle(r.begin(), r.end(), rng);
  return r;
}

// A body over symbols, closed: SCAN of `outputs` with these params [index, carry, xs, captured].
struct ScanSpec {
  UOp index;
  std::vector<UOp> carry_params, xs_params, captured_params;
  std::vector<UOp> outputs;
  std::vector<UOp> carry, xs, captured;
  std::int64_t steps = 0;
};
inline UOp make_scan(const ScanSpec& s) {
  std::vector<UOp> params{s.index}, src{UOp(), constant_int(s.steps)}, extra;
  for (const auto* part : {&s.carry_params, &s.xs_params, &s.captured_params})
    params.insert(params.end(), part->begin(), part->end());
  for (const auto* part : {&s.carry, &s.xs, &s.captured}) src.insert(src.end(), part->begin(), part->end());
  src[0] = close_lambda(s.outputs, params, extra);
  src.insert(src.end(), extra.begin(), extra.end());
  return make(Op::SCAN, std::span<const UOp>(src),
              Dims{static_cast<std::int64_t>(s.carry.size()), static_cast<std::int64_t>(s.xs.size())});
}

}  // namespace tinyphys::testing
