// Index arithmetic: int64 UOps over RANGE kept in one canonical form, so that equal indices are one node.
//
// Every index is c + sum k_i * atom_i. Atoms are loop variables, quotients, remainders and opaque values (an
// index read from memory). Quotients and remainders only ever see non-negative numbers, so rounding towards
// zero and towards minus infinity agree.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "uop/graph.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Inclusive.
struct Bounds {
  std::int64_t lo, hi;
};

struct Linear {
  std::int64_t c = 0;
  std::vector<std::pair<Node*, std::int64_t>> terms;  // sorted by serial number of the atom, no zero factor
};

class IndexMath {
 public:
  UOp number(std::int64_t v);
  // A loop variable in [0, extent).
  UOp range(std::int64_t id, std::int64_t extent);
  // Declares what is known of an opaque int64 value.
  void set_bounds(const UOp& atom, Bounds b);

  UOp add(const UOp& a, const UOp& b);
  UOp add(const UOp& a, std::int64_t c) { return add(a, number(c)); }
  UOp mul(const UOp& a, std::int64_t c);
  UOp div(const UOp& a, std::int64_t c);  // floor, c > 0
  UOp mod(const UOp& a, std::int64_t c);  // in [0, c)
  // a limited to [0, n)
  UOp clamp(const UOp& a, std::int64_t n);
  // a < c and a >= c as bool; constants where the bounds decide.
  UOp less(const UOp& a, std::int64_t c);
  UOp less(const UOp& a, const UOp& b);
  UOp not_less(const UOp& a, std::int64_t c) { return less(number(c - 1), a); }
  UOp both(const UOp& a, const UOp& b);  // AND; a null handle is true
  UOp where(const UOp& condition, const UOp& a, const UOp& b);

  Bounds bounds(Node* n);
  // The canonical form of an index made here; any other node is one opaque atom.
  Linear linear(Node* n);
  // In the order of asking.
  int serial(Node* n);
  // A quotient or remainder made here (not one of the user's).
  bool is_split(const Node* n) const { return splits_.contains(n); }

 private:
  UOp build(Linear l);
  Bounds bounds(const Linear& l);
  UOp keep(UOp n);
  // Terms and constant that are no multiple of c stay in `l`; the rest is returned, divided by c.
  static Linear take_multiples(Linear& l, std::int64_t c);
  void recombine(Linear& l);

  NodeMap<Bounds> bounds_;
  NodeMap<Linear> linear_;
  NodeMap<int> serial_;
  NodeMap<int> splits_;
  std::vector<UOp> kept_;  // keys of the maps stay alive
};

}  // namespace tinyphys
