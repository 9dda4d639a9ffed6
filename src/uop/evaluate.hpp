// One evaluator for every number type: float64 (each node's own dtype: the interp device), double-double, quad, a
// prime field, first-order dual numbers. It defines what each op means; kernels are held to it.
//
// Floats of a graph become T, integers and bools int64. Number<T> says what T can do; its default serves types
// that have operators and the math functions by argument-dependent lookup.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "support/dd.hpp"
#include "support/philox.hpp"
#include "tinyphys/error.hpp"
#include "uop/dft.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

template <class T> struct Value {
  DType dtype = DType::kFloat64;
  Dims shape;
  std::vector<T> real;                // floats
  std::vector<std::int64_t> integer;  // integers and bools
  // Floats that are as they were given: doubles, where a T is larger. `real` is empty then.
  std::vector<double> given = {};

  std::size_t size() const { return is_float(dtype) ? std::max(real.size(), given.size()) : integer.size(); }
};

// Asked first for every node: a value here replaces the node and all below it. BUFFER, SYM and PARAM must be given.
template <class T> using Leaf = std::function<std::optional<Value<T>>(const Node*)>;

// What a number type does. Specialise for types where some ops mean something else.
template <class T> struct Number {
  static T from_double(double v) { return T(v); }
  static T from_int(std::int64_t v) { return T(static_cast<double>(v)); }
  static double to_double(const T& v) { return static_cast<double>(v); }
  static T round_to(DType d, T v) {
    if constexpr (std::is_same_v<T, double>)
      if (d == DType::kFloat32) return static_cast<double>(static_cast<float>(v));
    return v;
  }
  static T power(const T& x, std::int64_t k);
  static T unary(const Node* n, const T& x);
  static T binary(const Node* n, const T& a, const T& b);
  static bool compare(const Node* n, const T& a, const T& b) {
    switch (n->op) {
      case Op::LT: return a < b;
      case Op::LE: return a <= b;
      case Op::EQ: return a == b;
      default: return a != b;
    }
  }
  static T fma(const T& a, const T& b, const T& c) {
    if constexpr (std::is_same_v<T, double>) return std::fma(a, b, c);
    return a * b + c;
  }
  static void add_to(T& acc, const T& x) { acc = acc + x; }
  static void add_product_to(T& acc, const T& a, const T& b) { acc = acc + a * b; }
};

namespace evaluate_detail {

template <class T> [[noreturn]] T unknown(const Node* n) {
  throw Error("evaluate", std::string(name(n->op)) + " is not defined here", "", 0);
}

// Integers wrap; x / 0 = x mod 0 = 0, without a trap.
inline std::int64_t wrap_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
inline std::int64_t wrap_sub(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
inline std::int64_t wrap_mul(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}
inline std::int64_t integer_div(std::int64_t a, std::int64_t b) {
  if (b == 0) return 0;
  return b == -1 ? wrap_sub(0, a) : a / b;
}
inline std::int64_t integer_mod(std::int64_t a, std::int64_t b) {
  if (b == 0 || b == -1) return 0;
  const std::int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
inline std::int64_t integer_power(std::int64_t x, std::int64_t k) {
  if (k < 0) return x == 1 ? 1 : x == -1 ? (k % 2 ? -1 : 1) : 0;
  std::int64_t r = 1;
  for (; k > 0; k >>= 1, x = wrap_mul(x, x))
    if (k & 1) r = wrap_mul(r, x);
  return r;
}
// Saturating, NaN to 0 (LLVM's fptosi.sat).
inline std::int64_t to_integer(double v) {
  if (std::isnan(v)) return 0;
  if (v >= 9223372036854775807.0) return std::numeric_limits<std::int64_t>::max();
  if (v <= -9223372036854775808.0) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(v);
}
inline std::int64_t fit_integer(DType d, std::int64_t v) {
  if (d == DType::kInt32) return static_cast<std::int32_t>(v);
  if (d == DType::kBool) return v != 0;
  return v;
}
inline std::int64_t saturate_int32(std::int64_t v) {
  return std::min<std::int64_t>(std::max<std::int64_t>(v, std::numeric_limits<std::int32_t>::min()),
                                std::numeric_limits<std::int32_t>::max());
}

inline std::int64_t integer_unary(const Node* n, std::int64_t x) {
  switch (n->op) {
    case Op::NEG: return wrap_sub(0, x);
    case Op::ABS: return x < 0 ? wrap_sub(0, x) : x;
    case Op::SIGN: return (x > 0) - (x < 0);
    case Op::NOT: return !x;
    case Op::FLOOR:
    case Op::CEIL: return x;
    case Op::POWI: return integer_power(x, n->arg(0));
    default: return unknown<std::int64_t>(n);
  }
}
inline std::int64_t integer_binary(const Node* n, std::int64_t a, std::int64_t b) {
  switch (n->op) {
    case Op::ADD: return wrap_add(a, b);
    case Op::SUB: return wrap_sub(a, b);
    case Op::MUL: return wrap_mul(a, b);
    case Op::DIV: return integer_div(a, b);
    case Op::MOD: return integer_mod(a, b);
    case Op::POW: return integer_power(a, b);
    case Op::MAX: return a >= b ? a : b;
    case Op::MIN: return a <= b ? a : b;
    case Op::AND: return a && b;
    case Op::OR: return a || b;
    case Op::PHILOX: return philox::draw(n->arg(0), a, b);
    default: return unknown<std::int64_t>(n);
  }
}
inline bool integer_compare(const Node* n, std::int64_t a, std::int64_t b) {
  switch (n->op) {
    case Op::LT: return a < b;
    case Op::LE: return a <= b;
    case Op::EQ: return a == b;
    default: return a != b;
  }
}

// Row-major strides.
inline Dims strides_of(std::span<const std::int64_t> shape) {
  Dims s(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) s[i - 1] = s[i] * shape[i];
  return s;
}

// Calls f(flat output index, index tuple) for each index of shape.
template <class F> void for_each_index(std::span<const std::int64_t> shape, F&& f) {
  std::int64_t total = 1;
  for (std::int64_t d : shape) total *= d;
  Dims index(shape.size(), 0);
  for (std::int64_t flat = 0; flat < total; ++flat) {
    f(flat, index);
    for (std::size_t i = shape.size(); i-- > 0;) {
      if (++index[i] < shape[i]) break;
      index[i] = 0;
    }
  }
}

}  // namespace evaluate_detail

// POWI is repeated multiplication up to |k| = 4 and the library's pow beyond: the meaning kernels share. A negative power
// divides step by step: 1 / (x * x) would be 0 for x beyond 1e154, where x^-2 is a subnormal number.
template <class T> T Number<T>::power(const T& x, std::int64_t k) {
  const std::int64_t m = k < 0 ? -k : k;
  const T one = from_double(1.0);
  if constexpr (std::is_same_v<T, double>)
    if (m > 4) return std::pow(x, static_cast<double>(k));
  switch (k) {
    case 0: return one;
    case 1: return x;
    case 2: return x * x;
    case 3: return x * x * x;
    case 4: return (x * x) * (x * x);
    case -1: return one / x;
    case -2: {
      const T r = one / x;
      return r * r;
    }
    case -3: return one / (x * x) / x;
    case -4: return one / (x * x) / (x * x);
    default: break;
  }
  T r = one, base = x;
  for (std::int64_t e = m; e > 0; e >>= 1) {
    if (e & 1) r = r * base;
    if (e > 1) base = base * base;
  }
  return k < 0 ? one / r : r;
}

template <class T> T Number<T>::unary(const Node* n, const T& x) {
  using std::abs, std::sqrt, std::exp, std::expm1, std::log, std::log1p, std::sin, std::cos, std::tan,
      std::asin, std::acos, std::atan, std::sinh, std::cosh, std::tanh, std::erf, std::floor, std::ceil;
  const T zero = from_double(0.0);
  switch (n->op) {
    case Op::NEG: return -x;
    case Op::ABS: return abs(x);
    case Op::SIGN: return x > zero ? from_double(1.0) : x < zero ? from_double(-1.0) : x == zero ? zero : x;
    case Op::SQRT: return sqrt(x);
    case Op::EXP: return exp(x);
    case Op::EXPM1: return expm1(x);
    case Op::LOG: return log(x);
    case Op::LOG1P: return log1p(x);
    case Op::SIN: return sin(x);
    case Op::COS: return cos(x);
    case Op::TAN: return tan(x);
    case Op::ASIN: return asin(x);
    case Op::ACOS: return acos(x);
    case Op::ATAN: return atan(x);
    case Op::SINH: return sinh(x);
    case Op::COSH: return cosh(x);
    case Op::TANH: return tanh(x);
    case Op::ERF:
      if constexpr (requires { erf(x); }) return erf(x);
      return evaluate_detail::unknown<T>(n);
    case Op::FLOOR: return floor(x);
    case Op::CEIL:
      if constexpr (requires { ceil(x); }) return ceil(x);
      return -floor(-x);
    case Op::POWI: return power(x, n->arg(0));
    default: return evaluate_detail::unknown<T>(n);
  }
}

template <class T> T Number<T>::binary(const Node* n, const T& a, const T& b) {
  using std::pow;
  switch (n->op) {
    case Op::ADD: return a + b;
    case Op::SUB: return a - b;
    case Op::MUL: return a * b;
    case Op::DIV: return a / b;
    case Op::POW: return pow(a, b);
    case Op::MAX: return a >= b || a != a ? a : b;
    case Op::MIN: return a <= b || a != a ? a : b;
    case Op::MOD:
      if constexpr (std::is_same_v<T, double>) {
        const double r = std::fmod(a, b);
        if (r == 0) return std::copysign(0.0, b);
        return (r < 0) != (b < 0) ? r + b : r;
      } else {
        using std::floor;
        return a - floor(a / b) * b;
      }
    case Op::ATAN2:
      if constexpr (std::is_same_v<T, double>)
        return std::atan2(a, b);
      else if constexpr (requires { atan2(a, b); })
        return atan2(a, b);
      return evaluate_detail::unknown<T>(n);
    default: return evaluate_detail::unknown<T>(n);
  }
}

// cos and sin of 2 pi k / n, 0 <= k < n: by Number<T>, where T has no functions of its own.
template <class T> dft::Complex<T> turn(std::int64_t k, std::int64_t n) {
  if constexpr (requires { Number<T>::turn(k, n); }) {
    return Number<T>::turn(k, n);
  } else if constexpr (std::is_same_v<T, double>) {  // as exact as a double is
    const dft::Complex<DD> x = dft::turn(k, n, kDDPi);
    return {x.re.hi, x.im.hi};
  } else {
    using std::acos;
    return dft::turn(k, n, acos(Number<T>::from_double(-1.0)));
  }
}

// A graph made ready to be evaluated many times (a scan body).
template <class T> class GraphEvaluator {
 public:
  using Ref = std::shared_ptr<const Value<T>>;

  explicit GraphEvaluator(std::span<Node* const> roots) : roots_(roots.begin(), roots.end()) {}

  std::vector<Ref> run(const Leaf<T>& leaf) {
    return run_with([&](const Node* n) -> Ref {
      if (auto v = leaf(n)) return ref(std::move(*v));
      return nullptr;
    });
  }

 private:
  std::vector<Ref> run_with(const std::function<Ref(const Node*)>& leaf) {
    NodeMap<Ref> values;
    scans_ = {};
    const auto order = toposort(roots_, [&](const Node* n) {
      Ref v = leaf(n);
      return v && values.insert(n, std::move(v));
    });
    NodeMap<int> uses;
    for (Node* n : order)
      for (Node* s : n->src()) ++uses[s];
    for (Node* r : roots_) ++uses[r];
    for (Node* n : order) {
      if (!values.contains(n)) {
        if (n->op == Op::LAMBDA || n->op == Op::SCAN) continue;  // made by GET
        const bool last = n->op == Op::RESHAPE && uses.at(n->src(0)) == 1;
        values.insert(n, last ? reshaped(n, *values.find(n->src(0))) : compute(n, values));
      }
      if (n->op == Op::GET) continue;
      for (Node* s : n->src())  // a value is dropped after its last use
        if (Ref* v = values.find(s); v && --uses[s] == 0) v->reset();
    }
    std::vector<Ref> out;
    for (Node* r : roots_) out.push_back(widened(*values.find(r)));
    return out;
  }

  static Ref ref(Value<T> v) { return std::make_shared<Value<T>>(std::move(v)); }

  // Of a value that nobody else reads, which is no more afterwards.
  static Ref reshaped(const Node* n, Ref& source) {
    Value<T> out = source.use_count() == 1 ? std::move(const_cast<Value<T>&>(*source)) : Value<T>(*source);
    out.shape = shape_of(n);
    return ref(std::move(out));
  }

  // With its floats as T.
  static Ref widened(const Ref& v) {
    if (v->given.empty()) return v;
    Value<T> wide{v->dtype, v->shape, {}, {}};
    wide.real.reserve(v->given.size());
    for (const double x : v->given) wide.real.push_back(Number<T>::from_double(x));
    return ref(std::move(wide));
  }

  Ref compute(const Node* n, NodeMap<Ref>& values) {
    if (n->op == Op::GET) return scan_output(n, values);
    std::vector<const Value<T>*> s;
    std::vector<Ref> wide;
    const bool moves = is_movement(n->op);
    bool all_given = moves;
    for (Node* x : n->src()) {
      const Ref* v = values.find(x);
      s.push_back(v ? v->get() : nullptr);
      all_given = all_given && v && !(*v)->given.empty();
    }
    for (std::size_t i = 0; i < s.size(); ++i)
      if (s[i] && !s[i]->given.empty() && !all_given && n->op != Op::MATMUL) {
        wide.push_back(widened(*values.find(n->src(i))));
        s[i] = wide.back().get();
      }
    Value<T> out;
    out.dtype = n->dtype;
    out.shape = shape_of(n);
    const auto size = static_cast<std::size_t>(n->size());
    if (is_float(n->dtype) && all_given)
      out.given.resize(size);
    else if (is_float(n->dtype))
      out.real.resize(size);
    else
      out.integer.resize(size);
    switch (traits(n->op).cls) {
      case OpClass::kUnary: unary(n, *s[0], out); break;
      case OpClass::kBinary: binary(n, *s[0], *s[1], out); break;
      case OpClass::kCompare:
        for (std::size_t i = 0; i < size; ++i)
          out.integer[i] = is_float(s[0]->dtype)
                               ? Number<T>::compare(n, s[0]->real[i], s[1]->real[i])
                               : evaluate_detail::integer_compare(n, s[0]->integer[i], s[1]->integer[i]);
        break;
      case OpClass::kTernary:
        for (std::size_t i = 0; i < size; ++i) {
          if (n->op == Op::FMA)
            out.real[i] =
                Number<T>::round_to(n->dtype, Number<T>::fma(s[0]->real[i], s[1]->real[i], s[2]->real[i]));
          else if (is_float(n->dtype))
            out.real[i] = s[0]->integer[i] ? s[1]->real[i] : s[2]->real[i];
          else
            out.integer[i] = s[0]->integer[i] ? s[1]->integer[i] : s[2]->integer[i];
        }
        break;
      case OpClass::kMovement: movement(n, s, out); break;
      case OpClass::kReduce: reduce(n, *s[0], out); break;
      default: whole(n, s, out); break;
    }
    return ref(std::move(out));
  }

  static void unary(const Node* n, const Value<T>& x, Value<T>& out) {
    if (n->op == Op::COPY) {
      out = x;
      return;
    }
    const bool from_float = is_float(x.dtype), to_float = is_float(n->dtype);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (n->op == Op::CAST) {
        if (to_float)
          out.real[i] =
              Number<T>::round_to(n->dtype, from_float ? x.real[i] : Number<T>::from_int(x.integer[i]));
        else if (n->dtype == DType::kBool)
          out.integer[i] = from_float ? Number<T>::to_double(x.real[i]) != 0 : x.integer[i] != 0;
        else if (from_float) {
          const std::int64_t v = evaluate_detail::to_integer(Number<T>::to_double(x.real[i]));
          out.integer[i] = n->dtype == DType::kInt32 ? evaluate_detail::saturate_int32(v) : v;
        } else
          out.integer[i] = evaluate_detail::fit_integer(n->dtype, x.integer[i]);
      } else if (to_float)
        out.real[i] = Number<T>::round_to(n->dtype, Number<T>::unary(n, x.real[i]));
      else
        out.integer[i] =
            evaluate_detail::fit_integer(n->dtype, evaluate_detail::integer_unary(n, x.integer[i]));
    }
  }

  static void binary(const Node* n, const Value<T>& a, const Value<T>& b, Value<T>& out) {
    if (is_float(n->dtype))
      for (std::size_t i = 0; i < out.real.size(); ++i)
        out.real[i] = Number<T>::round_to(n->dtype, Number<T>::binary(n, a.real[i], b.real[i]));
    else
      for (std::size_t i = 0; i < out.integer.size(); ++i)
        out.integer[i] = evaluate_detail::fit_integer(
            n->dtype, evaluate_detail::integer_binary(n, a.integer[i], b.integer[i]));
  }

  static void copy(const Value<T>& from, std::int64_t i, Value<T>& to, std::int64_t k) {
    if (!to.given.empty())
      to.given[static_cast<std::size_t>(k)] = from.given[static_cast<std::size_t>(i)];
    else if (is_float(to.dtype))
      to.real[static_cast<std::size_t>(k)] = from.real[static_cast<std::size_t>(i)];
    else
      to.integer[static_cast<std::size_t>(k)] = from.integer[static_cast<std::size_t>(i)];
  }

  static void movement(const Node* n, const std::vector<const Value<T>*>& s, Value<T>& out) {
    using evaluate_detail::for_each_index, evaluate_detail::strides_of;
    const Value<T>& x = *s[0];
    if (n->op == Op::RESHAPE) {
      out.real = x.real;
      out.integer = x.integer;
      out.given = x.given;
      return;
    }
    if (n->op == Op::CAT) {
      const auto axis = static_cast<std::size_t>(n->arg(0));
      const Dims stride = strides_of(out.shape);
      std::int64_t offset = 0;
      for (const Value<T>* part : s) {
        for_each_index(part->shape, [&](std::int64_t flat, const Dims& index) {
          std::int64_t to = offset * stride[axis];
          for (std::size_t d = 0; d < index.size(); ++d) to += index[d] * stride[d];
          copy(*part, flat, out, to);
        });
        offset += part->shape[axis];
      }
      return;
    }
    const Dims stride = strides_of(x.shape);
    for_each_index(out.shape, [&](std::int64_t flat, const Dims& index) {
      std::int64_t from = 0;
      bool inside = true;
      for (std::size_t d = 0; d < index.size(); ++d) {
        switch (n->op) {
          case Op::PERMUTE: from += index[d] * stride[static_cast<std::size_t>(n->arg(d))]; break;
          case Op::EXPAND: from += x.shape[d] == 1 ? 0 : index[d] * stride[d]; break;
          case Op::SLICE: from += (n->arg(3 * d) + index[d] * n->arg(3 * d + 2)) * stride[d]; break;
          case Op::PAD: {
            const std::int64_t i = index[d] - n->arg(1 + 2 * d);
            inside &= i >= 0 && i < x.shape[d];
            from += i * stride[d];
            break;
          }
          default: {  // ROLL
            const bool rolled = static_cast<std::int64_t>(d) == n->arg(0);
            const std::int64_t i = rolled ? (index[d] - n->arg(1) + x.shape[d]) % x.shape[d] : index[d];
            from += i * stride[d];
          }
        }
      }
      if (inside)
        copy(x, from, out, flat);
      else if (!out.given.empty())
        out.given[static_cast<std::size_t>(flat)] = from_bits(n->arg(0));
      else if (is_float(out.dtype))
        out.real[static_cast<std::size_t>(flat)] = Number<T>::from_double(from_bits(n->arg(0)));
      else
        out.integer[static_cast<std::size_t>(flat)] = n->arg(0);
    });
  }

  static void reduce(const Node* n, const Value<T>& x, Value<T>& out) {
    const auto kind = static_cast<Reduction>(n->arg(0));
    Dims to_stride(x.shape.size(), 0);
    std::int64_t stride = 1;
    for (std::size_t d = x.shape.size(); d-- > 0;) {
      bool reduced = false;
      for (std::size_t k = 1; k < n->n_arg; ++k) reduced |= n->arg(k) == static_cast<std::int64_t>(d);
      if (reduced) continue;
      to_stride[d] = stride;
      stride *= x.shape[d];
    }
    std::vector<char> started(out.size(), 0);
    const bool sequential = x.size() <= out.size() * static_cast<std::size_t>(kSequentialSum);
    if (kind == Reduction::kSum || kind == Reduction::kProd) {
      const double unit = kind == Reduction::kProd;
      for (T& v : out.real) v = Number<T>::from_double(unit);
      for (std::int64_t& v : out.integer) v = static_cast<std::int64_t>(unit);
      started.assign(started.size(), 1);
    }
    auto better = [&](auto& best, const auto& v) {
      if (kind == Reduction::kMax ? !(best >= v) && best == best : !(best <= v) && best == best) best = v;
    };
    evaluate_detail::for_each_index(x.shape, [&](std::int64_t flat, const Dims& index) {
      std::size_t to = 0;
      for (std::size_t d = 0; d < index.size(); ++d) to += static_cast<std::size_t>(index[d] * to_stride[d]);
      const auto i = static_cast<std::size_t>(flat);
      if (!started[to]) {
        started[to] = 1;
        copy(x, flat, out, static_cast<std::int64_t>(to));
      } else if (is_float(n->dtype)) {
        T& acc = out.real[to];
        if (kind == Reduction::kSum) {
          Number<T>::add_to(acc, x.real[i]);
          if (sequential) acc = Number<T>::round_to(n->dtype, acc);
        } else if (kind == Reduction::kProd)
          acc = Number<T>::round_to(n->dtype, acc * x.real[i]);
        else if constexpr (requires(T a) { a >= a; })
          better(acc, x.real[i]);
        else
          evaluate_detail::unknown<T>(n);
      } else {
        std::int64_t& acc = out.integer[to];
        if (kind == Reduction::kSum)
          acc = evaluate_detail::fit_integer(n->dtype, evaluate_detail::wrap_add(acc, x.integer[i]));
        else if (kind == Reduction::kProd)
          acc = evaluate_detail::fit_integer(n->dtype, evaluate_detail::wrap_mul(acc, x.integer[i]));
        else
          better(acc, x.integer[i]);
      }
    });
    round_all(out);
  }

  static void round_all(Value<T>& v) {
    for (T& x : v.real) x = Number<T>::round_to(v.dtype, x);
  }

  static void whole(const Node* n, const std::vector<const Value<T>*>& s, Value<T>& out) {
    using evaluate_detail::for_each_index, evaluate_detail::strides_of;
    switch (n->op) {
      case Op::CONST:
        if (is_float(n->dtype))
          out.real[0] = Number<T>::from_double(const_double(n));
        else
          out.integer[0] = const_int(n);
        return;
      case Op::IOTA:
        for (std::size_t i = 0; i < out.integer.size(); ++i) out.integer[i] = static_cast<std::int64_t>(i);
        return;
      case Op::BUFFER: {
        const Storage* data = storage(n);
        if (!data) throw Error("evaluate", "a buffer without data", "", 0);
        const HostRead values(*data);
        for (std::size_t i = 0; i < out.size(); ++i) load(n->dtype, values.data(), i, out);
        return;
      }
      case Op::CHECK:
        if (is_float(n->src(1)->dtype) || check_passes(n, s[1]->integer[0])) {
          out.real = s[0]->real;
          out.integer = s[0]->integer;
          return;
        }
        if (static_cast<CheckKind>(n->arg(0)) == CheckKind::kIndexInRange)
          index_out_of_range(static_cast<Op>(n->arg(2)), s[1]->integer[0], n->arg(1), n);
        throw Error("evaluate", "a run-time check failed", "", 0);
      case Op::CUMSUM: {
        const auto axis = static_cast<std::size_t>(n->arg(0));
        const Dims stride = strides_of(out.shape);
        for_each_index(out.shape, [&](std::int64_t flat, const Dims& index) {
          copy(*s[0], flat, out, flat);
          if (index[axis] == 0) return;
          const auto i = static_cast<std::size_t>(flat),
                     before = static_cast<std::size_t>(flat - stride[axis]);
          if (is_float(n->dtype))
            out.real[i] = out.real[before] + out.real[i];
          else
            out.integer[i] = evaluate_detail::fit_integer(
                n->dtype, evaluate_detail::wrap_add(out.integer[before], out.integer[i]));
        });
        round_all(out);
        return;
      }
      case Op::MATMUL: {
        const std::size_t r = out.shape.size();
        const std::int64_t rows = out.shape[r - 2], cols = out.shape[r - 1], inner = s[0]->shape[r - 1];
        for_each_index(out.shape, [&](std::int64_t flat, const Dims& index) {
          const std::int64_t batch = flat / std::max<std::int64_t>(rows * cols, 1);
          const std::int64_t a = (batch * rows + index[r - 2]) * inner,
                             b = batch * inner * cols + index[r - 1];
          const auto o = static_cast<std::size_t>(flat);
          if (is_float(n->dtype)) {
            T acc = Number<T>::from_double(0.0);
            for (std::int64_t k = 0; k < inner; ++k) {
              const auto i = static_cast<std::size_t>(a + k), j = static_cast<std::size_t>(b + k * cols);
              if (!s[0]->given.empty() && s[1]->given.empty())
                Number<T>::add_product_to(acc, Number<T>::from_double(s[0]->given[i]), s[1]->real[j]);
              else if (s[0]->given.empty() && !s[1]->given.empty())
                Number<T>::add_product_to(acc, s[0]->real[i], Number<T>::from_double(s[1]->given[j]));
              else if (!s[0]->given.empty())
                Number<T>::add_product_to(acc, Number<T>::from_double(s[0]->given[i]),
                                          Number<T>::from_double(s[1]->given[j]));
              else
                Number<T>::add_product_to(acc, s[0]->real[i], s[1]->real[j]);
            }
            out.real[o] = Number<T>::round_to(n->dtype, std::move(acc));
          } else {
            std::int64_t acc = 0;
            for (std::int64_t k = 0; k < inner; ++k)
              acc = evaluate_detail::wrap_add(
                  acc, evaluate_detail::wrap_mul(s[0]->integer[static_cast<std::size_t>(a + k)],
                                                 s[1]->integer[static_cast<std::size_t>(b + k * cols)]));
            out.integer[o] = evaluate_detail::fit_integer(n->dtype, acc);
          }
        });
        return;
      }
      case Op::FFT:
      case Op::RFFT:
      case Op::IRFFT: {
        transform(n, s[0]->real, out.real);
        round_all(out);
        return;
      }
      case Op::GATHER:
      case Op::SCATTER_ADD: {
        // One walk for both: x[outer, index[k], inner] against values[outer, k, inner].
        const Value<T>& x = *s[0];
        const Value<T>& at = *s[1];
        const auto axis = static_cast<std::size_t>(n->arg(0));
        std::int64_t outer = 1, inner = 1;
        for (std::size_t d = 0; d < axis; ++d) outer *= x.shape[d];
        for (std::size_t d = axis + 1; d < x.shape.size(); ++d) inner *= x.shape[d];
        const auto count = static_cast<std::int64_t>(at.integer.size());
        const std::int64_t extent = x.shape[axis];
        if (n->op == Op::SCATTER_ADD) {
          out.real = x.real;
          out.integer = x.integer;
        }
        for (std::int64_t o = 0; o < outer; ++o)
          for (std::int64_t k = 0; k < count; ++k) {
            std::int64_t i = at.integer[static_cast<std::size_t>(k)];
            if (i < 0) i += extent;
            if (i < 0 || i >= extent)
              index_out_of_range(n->op, at.integer[static_cast<std::size_t>(k)], extent, n);
            for (std::int64_t j = 0; j < inner; ++j) {
              const std::int64_t whole_index = (o * extent + i) * inner + j,
                                 part = (o * count + k) * inner + j;
              if (n->op == Op::GATHER)
                copy(x, whole_index, out, part);
              else if (is_float(n->dtype))
                Number<T>::add_to(out.real[static_cast<std::size_t>(whole_index)],
                                  s[2]->real[static_cast<std::size_t>(part)]);
              else
                out.integer[static_cast<std::size_t>(whole_index)] = evaluate_detail::fit_integer(
                    n->dtype, evaluate_detail::wrap_add(out.integer[static_cast<std::size_t>(whole_index)],
                                                        s[2]->integer[static_cast<std::size_t>(part)]));
            }
          }
        round_all(out);
        return;
      }
      default: throw Error("evaluate", "cannot evaluate " + std::string(name(n->op)), "", 0);
    }
  }

  // Axis by axis, a line at a time: RFFT its last axis first, IRFFT last.
  static void transform(const Node* n, const std::vector<T>& in, std::vector<T>& out) {
    using Line = std::vector<dft::Complex<T>>;
    const auto axes = n->arg().subspan(kFirstFftAxis);
    const Node* half = n->op == Op::RFFT ? n : n->src(0);  // pairs
    const auto pairs = half->shape().first(half->n_dim - 1);
    const Dims stride = evaluate_detail::strides_of(pairs);
    // f(start, step in `pairs`, start, step in the real values) for each line along an axis.
    const auto each_line = [&](std::int64_t axis, auto&& f) {
      const auto a = static_cast<std::size_t>(axis);
      const Node* real = n->op == Op::IRFFT ? n : n->src(0);
      std::int64_t outer = 1;
      for (std::size_t d = 0; d < a; ++d) outer *= pairs[d];
      for (std::int64_t o = 0; o < outer; ++o)
        for (std::int64_t i = 0; i < stride[a]; ++i)
          f(o * pairs[a] * stride[a] + i, o * real->shape()[a] * stride[a] + i, stride[a]);
    };
    const T zero = Number<T>::from_double(0.0);
    const std::int64_t sign = n->op == Op::FFT ? n->arg(0) : n->op == Op::RFFT ? kForwardFft : kInverseFft;
    std::vector<T> values = in;
    if (n->op == Op::RFFT) {
      values.assign(out.size(), zero);
      const std::int64_t length = n->src(0)->shape()[static_cast<std::size_t>(axes.back())];
      const dft::Plan<T> plan(length, sign, turn<T>);
      each_line(axes.back(), [&](std::int64_t at, std::int64_t from, std::int64_t step) {
        Line line;
        for (std::int64_t k = 0; k < length; ++k)
          line.push_back({in[static_cast<std::size_t>(from + k * step)], zero});
        line = plan(line);
        for (std::int64_t k = 0; k <= length / 2; ++k)
          put(values, at + k * step, line[static_cast<std::size_t>(k)]);
      });
    }
    for (const std::int64_t axis : n->op == Op::FFT ? axes : axes.first(axes.size() - 1)) {
      const std::int64_t length = pairs[static_cast<std::size_t>(axis)];
      const dft::Plan<T> plan(length, sign, turn<T>);
      each_line(axis, [&](std::int64_t at, std::int64_t, std::int64_t step) {
        Line line;
        for (std::int64_t k = 0; k < length; ++k) line.push_back(pair(values, at + k * step));
        line = plan(line);
        for (std::int64_t k = 0; k < length; ++k)
          put(values, at + k * step, line[static_cast<std::size_t>(k)]);
      });
    }
    if (n->op != Op::IRFFT) {
      out = std::move(values);
      return;
    }
    const std::int64_t length = n->arg(0);
    const dft::Plan<T> plan(length, sign, turn<T>);
    each_line(axes.back(), [&](std::int64_t at, std::int64_t to, std::int64_t step) {
      Line line(static_cast<std::size_t>(length), {zero, zero});
      for (std::int64_t k = 0; k <= length / 2; ++k) {
        dft::Complex<T> x = pair(values, at + k * step);
        if (k == 0 || 2 * k == length) x.im = zero;
        line[static_cast<std::size_t>(k)] = x;
        if (k > 0) line[static_cast<std::size_t>(length - k)] = {x.re, zero - x.im};
      }
      line = plan(line);
      for (std::int64_t k = 0; k < length; ++k)
        out[static_cast<std::size_t>(to + k * step)] = line[static_cast<std::size_t>(k)].re;
    });
  }
  static dft::Complex<T> pair(const std::vector<T>& v, std::int64_t i) {
    return {v[static_cast<std::size_t>(2 * i)], v[static_cast<std::size_t>(2 * i + 1)]};
  }
  static void put(std::vector<T>& v, std::int64_t i, const dft::Complex<T>& x) {
    v[static_cast<std::size_t>(2 * i)] = x.re;
    v[static_cast<std::size_t>(2 * i + 1)] = x.im;
  }

  static void load(DType d, const void* data, std::size_t i, Value<T>& out) {
    switch (d) {
      case DType::kFloat64: out.real[i] = Number<T>::from_double(static_cast<const double*>(data)[i]); return;
      case DType::kFloat32: out.real[i] = Number<T>::from_double(static_cast<const float*>(data)[i]); return;
      case DType::kInt64: out.integer[i] = static_cast<const std::int64_t*>(data)[i]; return;
      case DType::kInt32: out.integer[i] = static_cast<const std::int32_t*>(data)[i]; return;
      default: out.integer[i] = static_cast<const unsigned char*>(data)[i] != 0; return;
    }
  }

  // All outputs of a SCAN are made at its first GET.
  Ref scan_output(const Node* get, NodeMap<Ref>& values) {
    const Node* n = get->src(0);
    const auto which = static_cast<std::size_t>(get->arg(0));
    if (n->op != Op::SCAN) throw Error("evaluate", "cannot evaluate " + std::string(name(n->op)), "", 0);
    if (auto* done = scans_.find(n)) return (*done)[which];
    const ScanView scan(n);
    const std::int64_t steps = values.at(scan.steps())->integer[0];
    std::vector<Ref> inputs{nullptr};
    for (std::size_t i = 2; i < n->n_src; ++i) inputs.push_back(values.at(n->src(i)));
    std::vector<Ref> sources = inputs;
    for (std::size_t x = 0; x < scan.n_xs; ++x) {
      Ref& xs = sources[1 + scan.n_carry + x];
      xs = widened(xs);
    }
    std::vector<Value<T>> stacked(scan.n_out);
    for (std::size_t j = 0; j < scan.n_out; ++j) {
      const Node* o = scan.body()->src(scan.n_carry + j);
      stacked[j].dtype = o->dtype;
      stacked[j].shape = shape_of(o);
      stacked[j].shape.insert(stacked[j].shape.begin(), steps);
    }
    GraphEvaluator<T> body(scan.body()->src());
    for (std::int64_t step = 0; step < steps; ++step) {
      Value<T> index;
      index.dtype = DType::kInt64;
      index.integer = {step};
      inputs[0] = ref(std::move(index));
      for (std::size_t x = 0; x < scan.n_xs; ++x) {
        const std::size_t at = 1 + scan.n_carry + x;
        inputs[at] = ref(row(*sources[at], step));
      }
      auto outputs = body.run_with([&](const Node* p) -> Ref {
        if (p->op == Op::PARAM) return inputs[static_cast<std::size_t>(p->arg(0))];
        return nullptr;
      });
      for (std::size_t c = 0; c < scan.n_carry; ++c) inputs[1 + c] = outputs[c];
      for (std::size_t j = 0; j < scan.n_out; ++j) {
        const Value<T>& o = *outputs[scan.n_carry + j];
        stacked[j].real.insert(stacked[j].real.end(), o.real.begin(), o.real.end());
        stacked[j].integer.insert(stacked[j].integer.end(), o.integer.begin(), o.integer.end());
      }
      if (scan.has_until && outputs.back()->integer[0] != 0) break;
    }
    for (Value<T>& s : stacked) {  // the steps that `until` left out
      std::int64_t size = 1;
      for (std::int64_t d : s.shape) size *= d;
      if (is_float(s.dtype))
        s.real.resize(static_cast<std::size_t>(size), Number<T>::from_double(0.0));
      else
        s.integer.resize(static_cast<std::size_t>(size), 0);
    }
    std::vector<Ref> results(inputs.begin() + 1,
                             inputs.begin() + 1 + static_cast<std::ptrdiff_t>(scan.n_carry));
    for (Ref& carry : results) carry = widened(carry);  // after no steps they are the inputs
    for (auto& s : stacked) results.push_back(ref(std::move(s)));
    scans_.insert(n, results);
    return results[which];
  }

  static Value<T> row(const Value<T>& x, std::int64_t i) {
    Value<T> r;
    r.dtype = x.dtype;
    r.shape.assign(x.shape.begin() + 1, x.shape.end());
    std::int64_t size = 1;
    for (std::int64_t d : r.shape) size *= d;
    if (is_float(x.dtype))
      r.real.assign(x.real.begin() + i * size, x.real.begin() + (i + 1) * size);
    else
      r.integer.assign(x.integer.begin() + i * size, x.integer.begin() + (i + 1) * size);
    return r;
  }

  std::vector<Node*> roots_;
  NodeMap<std::vector<Ref>> scans_;
};

template <class T> std::vector<Value<T>> evaluate(std::span<Node* const> roots, const Leaf<T>& leaf = {}) {
  GraphEvaluator<T> e(roots);
  auto none = [](const Node*) -> std::optional<Value<T>> { return std::nullopt; };
  std::vector<Value<T>> out;
  for (auto& v : e.run(leaf ? leaf : Leaf<T>(none))) out.push_back(*v);
  return out;
}
template <class T> Value<T> evaluate(const UOp& root, const Leaf<T>& leaf = {}) {
  Node* r = root.get();
  return std::move(evaluate<T>(std::span<Node* const>(&r, 1), leaf).front());
}

}  // namespace tinyphys
