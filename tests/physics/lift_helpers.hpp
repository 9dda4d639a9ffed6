// What tests of evolutions share: the loop in quad precision, and distances from it.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "derive/lower_evolve.hpp"
#include "support/quad.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/evaluate.hpp"

namespace tinyphys::testing {

inline bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

// q and p after the loop that the EVOLVE means, every number a quad.
inline std::vector<Quad> quad_loop(const State& s) {
  const UOp q = uop(s.q);
  const auto outputs = lower_evolve(q->src(0));
  std::vector<Node*> roots{outputs[0].get(), outputs[1].get()};
  std::vector<Quad> all;
  for (const auto& v : evaluate<Quad>(roots)) all.insert(all.end(), v.real.begin(), v.real.end());
  return all;
}

inline std::vector<double> joined(const State& s) {
  auto v = s.q.to_vector<double>();
  const auto p = s.p.to_vector<double>();
  v.insert(v.end(), p.begin(), p.end());
  return v;
}

inline double relative_error(const std::vector<double>& x, const std::vector<Quad>& reference) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double r = static_cast<double>(reference[i]);
    const double d = static_cast<double>(Quad(x[i]) - reference[i]);
    error += d * d;
    norm += r * r;
  }
  return std::sqrt(error / std::max(norm, 1e-300));
}

// Deterministic and without symmetry.
inline Tensor bumpy(const std::vector<std::int64_t>& shape, double seed) {
  std::int64_t n = 1;
  for (const std::int64_t d : shape) n *= d;
  std::vector<double> v;
  for (std::int64_t i = 0; i < n; ++i)
    v.push_back(std::sin(seed * static_cast<double>(i * i % 1009)) + 0.3 * std::cos(static_cast<double>(i)));
  return Tensor::from(v, shape);
}

}  // namespace tinyphys::testing
