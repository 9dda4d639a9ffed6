// Shared by the tests of the front end.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tensor/access.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::testing {

using Doubles = std::vector<double>;
using Ints = std::vector<std::int64_t>;
using Bools = std::vector<bool>;

inline Doubles doubles(const Tensor& t) { return t.to_vector<double>(); }
inline Ints ints(const Tensor& t) { return t.to_vector<std::int64_t>(); }
inline Bools bools(const Tensor& t) { return t.to_vector<bool>(); }

// What the call throws.
template <class F> std::string message(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

// "[call] what (file.cpp:12)" for a call on this very line.
inline std::string error_at(const std::string& text, Where where = Where::current()) {
  std::string file = where.file_name();
  file.erase(0, file.rfind('/') + 1);
  return text + " (" + file + ":" + std::to_string(where.line()) + ")";
}

inline bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }
// Equal in value, NaN to NaN.
inline bool same(const Doubles& a, const Doubles& b) {
  bool equal = a.size() == b.size();
  for (std::size_t i = 0; equal && i < a.size(); ++i) equal = same(a[i], b[i]);
  return equal;
}
// Math functions of devices keep 4 ulp; 1e-14 is 45.
inline bool close(const Doubles& a, const Doubles& b, double relative = 1e-14) {
  bool equal = a.size() == b.size();
  for (std::size_t i = 0; equal && i < a.size(); ++i)
    equal = same(a[i], b[i]) || std::abs(a[i] - b[i]) <= relative * std::abs(b[i]);
  return equal;
}

// 0, 1, 2, ... as float64 of a shape.
inline Tensor counting(const Shape& shape) {
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  return Tensor::arange(n, DType::kFloat64).reshape(shape);
}

}  // namespace tinyphys::testing
