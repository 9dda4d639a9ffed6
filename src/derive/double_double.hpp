// A graph in double-double: each float64 value as an unevaluated sum of two, by the operations that any device has. So
// whatever runs kernels runs them in double-double too.
//
// Sums and products after Dekker (1971), Knuth (TAOCP 2, 4.2.2) and Joldes, Muller & Popescu (2017). A sum is off by some
// 2^-105 (|a| + |b|), also where its terms cancel; a product, quotient and square root by some 2^-103 of themselves; a sine
// or cosine by some 2^-102 of the larger of 1 and the angle, up to 2^40; an arcsine by some 2^-102. Where a high word is not finite, the low
// word says nothing. No rule of the rewriter changes a bit, so none touches what is built here.
#pragma once

#include <vector>

#include "uop/graph.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// high + low, of one shape; low is null where it is 0.
struct DDValue {
  UOp high, low;
};

// What sines and cosines need, for a float64 param of so many elements.
constexpr std::int64_t kAngleTable = 1024;
const std::vector<double>& angle_table();

class DoubleDouble {
 public:
  // `table`: a float64 value of kAngleTable elements, angle_table() when the kernel runs. Null: no angles.
  explicit DoubleDouble(UOp table = {}) : table_(std::move(table)) {}

  // What a value stands for; others stand for themselves, exactly.
  void set(const UOp& value, DDValue pair) { known_[value.get()] = std::move(pair); }
  // For + - * / neg abs sqrt sin cos asin where and movement; other ops over what has a low word: tp::Error.
  DDValue of(const UOp& value);
  UOp high(const UOp& value) { return of(value).high; }
  UOp low(const UOp& value);

 private:
  DDValue made(Node* n);

  UOp table_;
  NodeMap<DDValue> known_;
  std::vector<UOp> held_;  // the keys of known_
};

}  // namespace tinyphys
