// Random well-typed nodes with hard values in their buffers, for the rule tester and the fuzzers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "rewrite/uniform.hpp"
#include "support/philox.hpp"
#include "uop/evaluate.hpp"
#include "uop/graph.hpp"

namespace tinyphys::testing {

// TINYPHYS_FUZZ_SEED, else the fixed default: a test run is repeatable unless asked otherwise.
inline std::uint64_t seed_from_environment(std::uint64_t fallback) {
  const char* text = std::getenv("TINYPHYS_FUZZ_SEED");
  return text && *text ? std::strtoull(text, nullptr, 10) : fallback;
}

class RandomGraph {
 public:
  // `mild`: values between 1/4 and 4 in place of zeros, infinities, NaN, denormals and extreme integers.
  explicit RandomGraph(std::uint64_t seed, bool mild = false) : rng_(seed), mild_(mild) {}

  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(rng_() % static_cast<std::uint64_t>(n));
  }
  bool one_in(std::int64_t n) { return below(n) == 0; }
  template <class T> const T& pick(const std::vector<T>& v) {
    return v[static_cast<std::size_t>(below(static_cast<std::int64_t>(v.size())))];
  }

  DType dtype() {
    return pick<DType>(
        {DType::kFloat64, DType::kFloat64, DType::kFloat32, DType::kInt64, DType::kInt32, DType::kBool});
  }
  Dims shape() {
    Dims s;
    for (std::int64_t rank = below(4); rank > 0; --rank)
      s.push_back(one_in(20) ? 0 : one_in(3) ? 1 : 2 + below(3));
    return s;
  }

  double real() {
    if (mild_) return (one_in(2) ? 1 : -1) * (0.25 + 3.75 * std::generate_canonical<double, 53>(rng_));
    constexpr double kInf = std::numeric_limits<double>::infinity();
    static const std::vector<double> hard{
        0.0,     -0.0,   1.0,   -1.0, 2.0,    -2.0,    0.5,      kInf,   -kInf, NAN, 5e-324, -5e-324, 1e-310,
        8.9e307, -1e308, 1e-45, 3e38, 1e-300, -1e-300, 0x1p-149, 0x1p53, 1e300, 3.0, 0.1,    -0.3};
    if (one_in(2)) return pick(hard);
    return std::ldexp(2 * std::generate_canonical<double, 53>(rng_) - 1, static_cast<int>(below(60)) - 30);
  }
  std::int64_t integer(DType d) {
    if (d == DType::kBool) return below(2);
    if (mild_ || one_in(2)) return below(9) - 4;
    if (one_in(2))
      return d == DType::kInt32 ? static_cast<std::int32_t>(rng_()) : static_cast<std::int64_t>(rng_());
    if (d == DType::kInt32)
      return pick<std::int64_t>(
          {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()});
    return pick<std::int64_t>(
        {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()});
  }

  UOp leaf(DType d, const Dims& s) {
    if (is_complex(d)) {
      Dims parts = s;
      parts.push_back(2);
      const UOp array = leaf(real_dtype(d), parts);
      return buffer(d, s, StorageRef::share(storage(array.get())));
    }
    std::int64_t size = 1;
    for (std::int64_t n : s) size *= n;
    StorageRef data = StorageRef::allocate(static_cast<std::size_t>(size) * item_size(d));
    const HostWrite values(*data);
    auto* to = values.as<char>();
    for (std::int64_t i = 0; i < size; ++i, to += item_size(d)) {
      const double r = is_float(d) ? real() : 0;
      const std::int64_t n = is_float(d) ? 0 : integer(d);
      const float f = static_cast<float>(r);
      const auto n32 = static_cast<std::int32_t>(n);
      const auto truth = static_cast<unsigned char>(n);
      switch (d) {
        case DType::kFloat64: std::memcpy(to, &r, sizeof r); break;
        case DType::kFloat32: std::memcpy(to, &f, sizeof f); break;
        case DType::kInt64: std::memcpy(to, &n, sizeof n); break;
        case DType::kInt32: std::memcpy(to, &n32, sizeof n32); break;
        default: std::memcpy(to, &truth, 1);
      }
    }
    return buffer(d, s, std::move(data));
  }
  UOp number(DType d) { return is_float(d) ? constant(real(), d) : constant_int(integer(d), d); }
  UOp structural_number(DType d) {
    if (d == DType::kBool) return constant_bool(one_in(2));
    return constant(pick<double>({0.0, 1.0, -1.0, 2.0, -2.0, is_float(d) ? 0.5 : 1.0}), d);
  }
  // A number at every place of s; sometimes by another way than the front end's.
  UOp numbers(const UOp& number, const Dims& s) {
    if (!s.empty() && one_in(4)) return make(Op::EXPAND, {make(Op::RESHAPE, {number}, Dims(s.size(), 1))}, s);
    return uniform(number, s);
  }

  // A node that stands for anything.
  UOp any(DType d, const Dims& s) {
    switch (below(8)) {
      case 0: return numbers(one_in(2) ? structural_number(d) : number(d), s);
      case 1: return expanded(d, s);
      case 2:
        if (d == DType::kBool) return make(Op::NOT, {leaf(d, s)});
        return make(one_in(2) ? Op::NEG : Op::ABS, {leaf(d, s)});
      case 3: {
        const UOp x = leaf(d, s);
        if (is_float(d) && one_in(2)) return make(Op::COSH, {x});
        return make(d == DType::kBool ? Op::AND : Op::MUL, {x, x});
      }
      default: return leaf(d, s);
    }
  }
  // A complex value, `depth` operations deep, over complex leaves and real ones.
  UOp complex(DType d, const Dims& s, int depth) {
    if (depth == 0) return leaf(d, s);
    const Source source = [this, depth](DType of, const Dims& shape) {
      return is_complex(of) ? complex(of, shape, depth - 1) : leaf(of, shape);
    };
    const auto below_it = [&](DType of, const Dims& shape) { return source(of, shape); };
    static const std::vector<Op> ops{
        Op::CONJ,    Op::NEG,     Op::ADD,    Op::SUB,    Op::MUL,     Op::MUL,        Op::DIV,
        Op::SQRT,    Op::EXP,     Op::LOG,    Op::SIN,    Op::COS,     Op::TAN,        Op::SINH,
        Op::COSH,    Op::TANH,    Op::POW,    Op::POWI,   Op::WHERE,   Op::CAST,       Op::CAST,
        Op::RESHAPE, Op::PERMUTE, Op::EXPAND, Op::SLICE,  Op::PAD,     Op::ROLL,       Op::CAT,
        Op::REDUCE,  Op::CUMSUM,  Op::MATMUL, Op::GATHER, Op::AS_REAL, Op::AS_COMPLEX, Op::SCATTER_ADD};
    const Op op = pick(ops);
    const auto rank = static_cast<std::int64_t>(s.size());
    switch (op) {
      case Op::CAST: {  // of a real number, or to the other width and back
        const DType other = d == DType::kComplex64 ? DType::kComplex128 : DType::kComplex64;
        return make(op, {below_it(one_in(3) ? other : DType::kFloat64, s)}, {static_cast<std::int64_t>(d)});
      }
      case Op::AS_REAL: return make(Op::AS_COMPLEX, {make(Op::NEG, {make(op, {below_it(d, s)})})});
      case Op::AS_COMPLEX: {
        Dims parts = s;
        parts.push_back(2);
        return make(op, {leaf(real_dtype(d), parts)});
      }
      case Op::CUMSUM:
        if (rank == 0) return below_it(d, s);
        return make(op, {below_it(d, s)}, {below(rank)});
      case Op::MATMUL: {
        if (rank < 2) return below_it(d, s);
        Dims left = s, right = s;
        left[s.size() - 1] = right[s.size() - 2] = 1 + below(3);
        return make(op, {below_it(d, left), below_it(d, right)});
      }
      case Op::GATHER:
      case Op::SCATTER_ADD: {
        if (rank == 0) return below_it(d, s);
        const std::int64_t axis = below(rank), count = s[static_cast<std::size_t>(axis)];
        Dims from = s;
        const Dims length{op == Op::GATHER ? count : 2};
        from[static_cast<std::size_t>(axis)] = op == Op::GATHER ? 1 : 2;
        const UOp index = numbers(constant_int(0), length);
        if (op == Op::GATHER) return make(op, {below_it(d, from), index}, {axis});
        if (count == 0) return below_it(d, s);
        return make(op, {below_it(d, s), index, below_it(d, from)}, {axis});
      }
      case Op::CONJ: return make(op, {below_it(d, s)});
      default: break;
    }
    const UOp made = node(op, d, s, source);
    return made ? made : below_it(d, s);
  }

  UOp expanded(DType d, const Dims& s) { return node(Op::EXPAND, d, s, leaf_source()); }

  using Source = std::function<UOp(DType, const Dims&)>;
  Source leaf_source() {
    return [this](DType d, const Dims& s) { return leaf(d, s); };
  }
  Source any_source() {
    return [this](DType d, const Dims& s) { return any(d, s); };
  }

  // A node of this op with this dtype and shape, over what `source` gives; null where there is none.
  UOp node(Op op, DType d, const Dims& s, const Source& source) {
    if (!sensible(op, d)) return {};
    const OpTraits& t = traits(op);
    switch (t.cls) {
      case OpClass::kUnary: {
        std::vector<std::int64_t> arg;
        if (op == Op::CAST) arg = {static_cast<std::int64_t>(d)};
        if (op == Op::POWI) arg = {pick<std::int64_t>({-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, -8})};
        return make(op, {source(op == Op::CAST ? dtype() : d, s)}, arg);
      }
      case OpClass::kBinary: {
        std::vector<std::int64_t> arg;
        if (op == Op::PHILOX) arg = {philox::number({below(3), below(2), 1 + below(63)})};
        return make(op, {source(d, s), source(d, s)}, arg);
      }
      case OpClass::kCompare: {
        const DType of = dtype();
        return make(op, {source(of, s), source(of, s)});
      }
      case OpClass::kTernary:
        return make(op, {source(op == Op::WHERE ? DType::kBool : d, s), source(d, s), source(d, s)});
      case OpClass::kMovement: return movement(op, d, s, source);
      case OpClass::kReduce: return reduction(d, s, source);
      default: return {};
    }
  }

 private:
  static bool sensible(Op op, DType d) {
    if (op == Op::COPY) return false;  // only what is realized has a place
    if (op == Op::CONJ) return is_complex(d);
    if (is_complex(d)) return true;  // complex() draws what it takes
    if (op == Op::CAST) return true;
    if (op == Op::NOT || op == Op::AND || op == Op::OR || traits(op).cls == OpClass::kCompare)
      return d == DType::kBool;
    if (op == Op::PHILOX) return d == DType::kInt64;
    if (op == Op::WHERE || is_movement(op) || op == Op::REDUCE) return true;
    switch (op) {
      case Op::NEG:
      case Op::ABS:
      case Op::SIGN:
      case Op::FLOOR:
      case Op::CEIL:
      case Op::POWI:
      case Op::ADD:
      case Op::SUB:
      case Op::MUL:
      case Op::DIV:
      case Op::MOD:
      case Op::MAX:
      case Op::MIN: return d != DType::kBool;
      default: return is_float(d);
    }
  }

  UOp movement(Op op, DType d, const Dims& s, const Source& source) {
    const auto rank = static_cast<std::int64_t>(s.size());
    const bool same = one_in(3);  // leaves everything in its place
    Dims from = s, arg;
    switch (op) {
      case Op::RESHAPE:
        if (!same) {
          if (!from.empty() && one_in(2)) {
            std::int64_t n = 1;
            for (std::int64_t k : from) n *= k;
            from = {n};
          }
          if (from.size() < 5)
            from.insert(from.begin() + below(static_cast<std::int64_t>(from.size()) + 1), 1);
        }
        return make(op, {source(d, from)}, s);
      case Op::PERMUTE: {
        for (std::int64_t i = 0; i < rank; ++i) arg.push_back(i);
        if (!same) std::shuffle(arg.begin(), arg.end(), rng_);
        for (std::size_t i = 0; i < s.size(); ++i) from[static_cast<std::size_t>(arg[i])] = s[i];
        return make(op, {source(d, from)}, arg);
      }
      case Op::EXPAND:
        if (!same)
          for (std::int64_t& n : from)
            if (one_in(2)) n = 1;
        return make(op, {source(d, from)}, s);
      case Op::SLICE:
        for (std::size_t i = 0; i < s.size(); ++i) {
          std::int64_t start = 0, step = 1;
          if (!same) {
            start = below(3);
            step = one_in(3) ? 2 : 1;
            const std::int64_t span = s[i] > 0 ? (s[i] - 1) * step : 0;
            from[i] = start + span + 1 + below(2);
            if (one_in(3)) {
              start += span;
              step = -step;
            }
          }
          arg.insert(arg.end(), {start, start + s[i] * step, step});
        }
        return make(op, {source(d, from)}, arg);
      case Op::PAD:
        arg.push_back(is_complex(d) ? 0 : number(d)->arg(1));
        if (one_in(2)) arg[0] = 0;
        for (std::int64_t& n : from) {
          const std::int64_t before = same ? 0 : below(n + 1), after = same ? 0 : below(n - before + 1);
          n -= before + after;
          arg.insert(arg.end(), {before, after});
        }
        return make(op, {source(d, from)}, arg);
      case Op::ROLL: {
        if (rank == 0) return {};
        const std::int64_t axis = below(rank), n = s[static_cast<std::size_t>(axis)];
        return make(op, {source(d, s)}, {axis, same || n == 0 ? 0 : below(n)});
      }
      case Op::CAT: {
        if (rank == 0) return {};
        const auto axis = static_cast<std::size_t>(below(rank));
        std::vector<UOp> parts;
        for (std::int64_t left = s[axis]; left > 0 || parts.empty(); left -= from[axis]) {
          from[axis] = same ? left : 1 + below(std::max<std::int64_t>(left, 1));
          from[axis] = std::min(from[axis], left);
          parts.push_back(source(d, from));
        }
        arg = {static_cast<std::int64_t>(axis)};
        return make(op, std::span<const UOp>(parts), arg);
      }
      default: return {};
    }
  }

  UOp reduction(DType d, const Dims& s, const Source& source) {
    Dims from, arg{d == DType::kBool ? 2 + below(2) : below(is_complex(d) ? 2 : 4)};
    for (std::size_t i = 0; i <= s.size(); ++i) {
      if (one_in(2)) {
        arg.push_back(static_cast<std::int64_t>(from.size()));
        from.push_back(one_in(2) ? 1 : 2 + below(2));
      }
      if (i < s.size()) from.push_back(s[i]);
    }
    return make(Op::REDUCE, {source(d, from)}, arg);
  }

  std::mt19937_64 rng_;
  bool mild_;
};

// Equal in every bit; any NaN equals any NaN.
inline bool same_bits(const Value<double>& a, const Value<double>& b) {
  if (a.dtype != b.dtype || a.shape != b.shape || a.real.size() != b.real.size() || a.integer != b.integer)
    return false;
  for (std::size_t i = 0; i < a.real.size(); ++i)
    if (!(std::isnan(a.real[i]) && std::isnan(b.real[i])) && bits(a.real[i]) != bits(b.real[i])) return false;
  return true;
}
inline bool close(const Value<double>& a, const Value<double>& b, double relative) {
  if (a.dtype != b.dtype || a.shape != b.shape || a.integer != b.integer) return false;
  for (std::size_t i = 0; i < a.real.size(); ++i)
    if (a.real[i] != b.real[i] && !(std::fabs(a.real[i] - b.real[i]) <= relative * std::fabs(a.real[i])))
      return false;
  return true;
}
inline std::string values_text(const Value<double>& v) {
  std::string s;
  for (double d : v.real) s += std::to_string(d) + (std::signbit(d) && d == 0 ? "(-0) " : " ");
  for (std::int64_t n : v.integer) s += std::to_string(n) + " ";
  return s;
}

}  // namespace tinyphys::testing
