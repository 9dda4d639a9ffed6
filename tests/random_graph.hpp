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
  using Source = std::function<UOp(DType, const Dims&)>;

  // A complex value, `depth` operations deep, over complex leaves and real ones.
  UOp complex(DType d, const Dims& s, int depth) { return complex(d, s, depth, leaf_source()); }
  // The same over what `bottom` gives.
  UOp complex(DType d, const Dims& s, int depth, const Source& bottom) {
    if (depth == 0) return bottom(d, s);
    const Source source = [this, depth, &bottom](DType of, const Dims& shape) {
      return is_complex(of) ? complex(of, shape, depth - 1, bottom) : bottom(of, shape);
    };
    const auto below_it = [&](DType of, const Dims& shape) { return source(of, shape); };
    static const std::vector<Op> ops{
        Op::CONJ,    Op::NEG,     Op::ADD,    Op::SUB,    Op::MUL,     Op::MUL,        Op::DIV,
        Op::SQRT,    Op::EXP,     Op::LOG,    Op::SIN,    Op::COS,     Op::TAN,        Op::SINH,
        Op::COSH,    Op::TANH,    Op::POW,    Op::POWI,   Op::WHERE,   Op::CAST,       Op::CAST,
        Op::RESHAPE, Op::PERMUTE, Op::EXPAND, Op::SLICE,  Op::PAD,     Op::ROLL,       Op::CAT,
        Op::REDUCE,  Op::CUMSUM,  Op::MATMUL, Op::GATHER, Op::AS_REAL, Op::AS_COMPLEX, Op::SCATTER_ADD};
    const Op op = pick(ops);
    switch (op) {
      case Op::CAST: {  // of a real number, or to the other width and back
        const DType other = d == DType::kComplex64 ? DType::kComplex128 : DType::kComplex64;
        return make(op, {below_it(one_in(3) ? other : DType::kFloat64, s)}, {static_cast<std::int64_t>(d)});
      }
      case Op::AS_REAL: return make(Op::AS_COMPLEX, {make(Op::NEG, {make(op, {below_it(d, s)})})});
      case Op::AS_COMPLEX: {
        Dims parts = s;
        parts.push_back(2);
        return make(op, {below_it(real_dtype(d), parts)});
      }
      case Op::CONJ: return make(op, {below_it(d, s)});
      default: break;
    }
    const UOp made = node(op, d, s, source);
    return made ? made : below_it(d, s);
  }

  UOp expanded(DType d, const Dims& s) { return node(Op::EXPAND, d, s, leaf_source()); }

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
      case OpClass::kWhole: return whole(op, d, s, source);
      default: return {};
    }
  }

  // What stands in `pool` with this dtype and shape, else something new.
  UOp from(const std::vector<UOp>& pool, DType d, const Dims& s) {
    std::vector<UOp> fit;
    for (const UOp& u : pool)
      if (u->dtype == d && shape_of(u.get()) == s) fit.push_back(u);
    if (!fit.empty() && !one_in(6)) return pick(fit);
    return is_complex(d) ? leaf(d, s) : any(d, s);
  }
  // A graph that grows by `size` ops over what is there: shared nodes, movement of all kinds, few dtypes and shapes at
  // once so that operands meet. Every node is a root. Ops are those that `accept` lets through.
  std::vector<UOp> grow(std::int64_t size, const Dims& shape, const std::function<bool(Op)>& accept,
                        std::vector<UOp> pool = {}) {
    const DType main_dtype = dtype();
    const Source source = [&](DType d, const Dims& s) { return from(pool, d, s); };
    while (static_cast<std::int64_t>(pool.size()) < size) {
      const auto op = static_cast<Op>(below(kOpCount));
      if (!accept(op)) continue;
      // Cheap exact ops three times out of four: there is more algebra in them.
      const OpClass cls = traits(op).cls;
      if (cls == OpClass::kUnary && op > Op::SQRT && op < Op::FLOOR && !one_in(4)) continue;
      const DType d = one_in(4) ? dtype() : main_dtype;
      if (UOp u = node(op, d, one_in(5) ? this->shape() : shape, source)) pool.push_back(std::move(u));
    }
    return pool;
  }

  // An expression of elementwise ops, movement and reductions over what `bottom` gives.
  UOp deep(DType d, const Dims& s, int depth, const Source& bottom) {
    if (is_complex(d)) return complex(d, s, std::min(depth, 2), bottom);
    const Source source = [&](DType of, const Dims& shape) {
      return is_complex(of) || one_in(3) ? bottom(of, shape) : deep(of, shape, depth - 1, bottom);
    };
    while (depth > 0) {
      const auto op = static_cast<Op>(below(kOpCount));
      if (!is_elementwise(op) && !is_movement(op) && op != Op::REDUCE) continue;
      if (const UOp u = node(op, d, s, source)) return u;
    }
    return bottom(d, s);
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
    if (op == Op::WHERE || is_movement(op) || op == Op::REDUCE || traits(op).cls == OpClass::kWhole)
      return true;
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

  // Positions along an axis of n, from either end.
  UOp positions(std::int64_t n, std::int64_t count) {
    StorageRef data = StorageRef::allocate(static_cast<std::size_t>(count) * sizeof(std::int64_t));
    const HostWrite write(*data);
    for (std::int64_t i = 0; i < count; ++i) write.as<std::int64_t>()[i] = below(2 * n) - n;
    return buffer(DType::kInt64, Dims{count}, std::move(data));
  }

  UOp whole(Op op, DType d, const Dims& s, const Source& source) {
    const auto rank = static_cast<std::int64_t>(s.size());
    if (rank == 0 || d == DType::kBool) return {};
    const auto axis = static_cast<std::size_t>(below(rank));
    const auto arg = static_cast<std::int64_t>(axis);
    const std::int64_t count = s[axis];
    switch (op) {
      case Op::CUMSUM: return make(op, {source(d, s)}, {arg});
      case Op::MATMUL: {
        if (rank < 2) return {};
        Dims left = s, right = s;
        left[s.size() - 1] = right[s.size() - 2] = one_in(8) ? below(20) : 1 + below(3);
        return make(op, {source(d, left), source(d, right)});
      }
      case Op::GATHER: {
        Dims from = s;
        from[axis] = 1 + below(4);
        const UOp x = source(d, from);
        return make(op, {x, positions(from[axis], count)}, {arg});
      }
      case Op::SCATTER_ADD: {
        if (count == 0) return {};
        Dims part = s;
        part[axis] = below(5);
        const UOp base = source(d, s);
        return make(op, {base, positions(count, part[axis]), source(d, part)}, {arg});
      }
      case Op::FFT: {
        if (!is_float(d) || rank < 2 || s.back() != 2) return {};
        Dims sign_axes{one_in(2) ? kForwardFft : kInverseFft};
        for (std::int64_t a = 0; a + 1 < rank; ++a)
          if (s[static_cast<std::size_t>(a)] > 0 && (one_in(2) || (a + 2 == rank && sign_axes.size() == 1)))
            sign_axes.push_back(a);
        return sign_axes.size() > 1 ? make(op, {source(d, s)}, sign_axes) : UOp();
      }
      case Op::RFFT: {
        if (!is_float(d) || rank < 2 || s.back() != 2 || arg + 1 == rank || count == 0) return {};
        Dims from(s.begin(), s.end() - 1);
        from[axis] = std::max<std::int64_t>(2 * (count - 1) + below(2), 1);
        return from[axis] / 2 + 1 == count ? make(op, {source(d, from)}, {kForwardFft, arg}) : UOp();
      }
      case Op::IRFFT: {
        if (!is_float(d) || count == 0) return {};
        Dims half = s;
        half[axis] = count / 2 + 1;
        half.push_back(2);
        return make(op, {source(d, half)}, {count, arg});
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
