#include "codegen/lower_operations.hpp"

#include <limits>

#include "codegen/rangeify.hpp"

namespace tinyphys {
namespace {

class OperationLowering {
 public:
  OperationLowering(const Program& p, const RenderCaps& caps) : in_(p), caps_(caps) {}

  Program run() {
    for (const Instr& i : in_.code) {
      Instr now = i;
      for (int& r : now.src) r = at_[static_cast<std::size_t>(r)];
      if (now.loop >= 0) now.loop = at_[static_cast<std::size_t>(now.loop)];
      switch (i.code) {
        case Code::kOp: at_.push_back(operation(std::move(now))); break;
        case Code::kAcross: at_.push_back(across(now)); break;
        default: at_.push_back(emit(std::move(now))); break;
      }
    }
    return std::move(out_);
  }

 private:
  // --- building ---

  int emit(Instr i) {
    out_.code.push_back(std::move(i));
    return static_cast<int>(out_.code.size()) - 1;
  }
  const Instr& at(int r) const { return out_.code[static_cast<std::size_t>(r)]; }
  int op(Op o, DType d, std::vector<int> src, bool plain = false) {
    return emit(
        {.code = Code::kOp, .op = o, .dtype = d, .lanes = lanes_, .src = std::move(src), .plain = plain});
  }
  int number(DType d, double v) {
    return emit(
        {.code = Code::kConst, .dtype = d, .imm = is_float(d) ? bits(v) : static_cast<std::int64_t>(v)});
  }
  int integer(DType d, std::int64_t v) { return emit({.code = Code::kConst, .dtype = d, .imm = v}); }
  int compare(Op o, int a, int b) { return op(o, DType::kBool, {a, b}); }
  int both(int a, int b) { return op(Op::AND, DType::kBool, {a, b}); }
  int either(int a, int b) { return op(Op::OR, DType::kBool, {a, b}); }
  int negation(int a) { return op(Op::NOT, DType::kBool, {a}); }
  int where(int condition, int a, int b) { return op(Op::WHERE, at(a).dtype, {condition, a, b}); }

  // --- what is spelled out; x, a, b are registers of the new program ---

  int operation(Instr i) {
    lanes_ = i.lanes;
    const DType d = at(i.src[i.op == Op::WHERE ? 1 : 0]).dtype;  // of the operands
    if (i.op == Op::CAST) return cast(std::move(i), d);
    if (d == DType::kBool)
      if (const int r = logic(i); r >= 0) return r;
    switch (i.op) {
      case Op::ABS: return is_float(d) ? emit(std::move(i)) : absolute(i.src[0]);
      case Op::SIGN: return sign(i.src[0]);
      case Op::FLOOR:
      case Op::CEIL: return is_float(d) ? emit(std::move(i)) : i.src[0];
      case Op::DIV:
      case Op::MOD:
        if (i.plain || (is_float(d) && i.op == Op::DIV)) return emit(std::move(i));
        return is_float(d) ? float_modulo(i.src[0], i.src[1]) : integer_division(i.op, i.src[0], i.src[1]);
      case Op::MAX:
      case Op::MIN: return combine(i.op, i.src[0], i.src[1]);
      case Op::POWI: return is_float(d) ? float_power(i.src[0], i.imm) : integer_power(i.src[0], i.imm);
      case Op::POW: return is_float(d) ? emit(std::move(i)) : integer_power(i.src[0], i.src[1]);
      default: return emit(std::move(i));
    }
  }

  // Operations on bools that are not logic already; -1 for the rest.
  int logic(const Instr& i) {
    const int a = i.src[0];
    switch (i.op) {
      case Op::NEG:
      case Op::ABS:
      case Op::SIGN:
      case Op::FLOOR:
      case Op::CEIL: return a;
      case Op::ADD:
      case Op::MAX: return either(a, i.src[1]);
      case Op::SUB: return compare(Op::NE, a, i.src[1]);
      case Op::MUL:
      case Op::DIV:
      case Op::MIN: return both(a, i.src[1]);
      case Op::MOD: return integer(DType::kBool, 0);
      case Op::LT: return both(negation(a), i.src[1]);
      case Op::LE: return either(negation(a), i.src[1]);
      default: return -1;
    }
  }

  int absolute(int x) {
    const DType d = at(x).dtype;
    return where(compare(Op::LT, x, number(d, 0)), op(Op::NEG, d, {x}), x);
  }

  // Zeros and NaN stay as they are.
  int sign(int x) {
    const DType d = at(x).dtype;
    const int zero = number(d, 0);
    int v = is_float(d) ? where(compare(Op::EQ, x, zero), zero, x) : zero;
    v = where(compare(Op::LT, x, zero), number(d, -1), v);
    return where(compare(Op::LT, zero, x), number(d, 1), v);
  }

  // One of the ops of reductions.
  int combine(Op o, int a, int b) {
    const DType d = at(a).dtype;
    if (d == DType::kBool) return o == Op::ADD || o == Op::MAX ? either(a, b) : both(a, b);
    if ((o != Op::MAX && o != Op::MIN) || (!is_float(d) && caps_.integer_extrema)) return op(o, d, {a, b});
    // max: a >= b || a != a ? a : b, so that NaN wins from either side.
    const int wins = o == Op::MAX ? compare(Op::LE, b, a) : compare(Op::LE, a, b);
    return where(is_float(d) ? either(wins, compare(Op::NE, a, a)) : wins, a, b);
  }

  int integer_division(Op o, int a, int b) {
    const DType d = at(a).dtype;
    const int zero = number(d, 0);
    const Instr& divisor = at(b);
    const bool safe = divisor.code == Code::kConst && divisor.imm != 0 && divisor.imm != -1;
    int by_zero = -1, by_minus = -1;
    if (!safe) {
      by_zero = compare(Op::EQ, b, zero);
      by_minus = compare(Op::EQ, b, number(d, -1));
      b = where(either(by_zero, by_minus), number(d, 1), b);
    }
    if (o == Op::DIV) {
      const int q = op(Op::DIV, d, {a, b}, true);
      return safe ? q : where(by_zero, zero, where(by_minus, op(Op::NEG, d, {a}), q));
    }
    const int r = op(Op::MOD, d, {a, b}, true);  // by 1 where it was 0 or -1: 0
    const int signs = compare(Op::NE, compare(Op::LT, r, zero), compare(Op::LT, b, zero));
    return where(both(signs, compare(Op::NE, r, zero)), op(Op::ADD, d, {r, b}), r);
  }

  int float_modulo(int a, int b) {
    const DType d = at(a).dtype;
    const int zero = number(d, 0), r = op(Op::MOD, d, {a, b}, true);
    const int below = compare(Op::LT, b, zero);
    const int signs = compare(Op::NE, compare(Op::LT, r, zero), below);
    const int moved = where(signs, op(Op::ADD, d, {r, b}), r);
    return where(compare(Op::EQ, r, zero), where(below, number(d, -0.0), zero), moved);
  }

  // Up to |k| = 4 by multiplication, beyond by pow; a negative power divides step by step (Number<T>::power).
  int float_power(int x, std::int64_t k) {
    const DType d = at(x).dtype;
    const auto times = [&](int p, int q) { return op(Op::MUL, d, {p, q}); };
    const auto over = [&](int p, int q) { return op(Op::DIV, d, {p, q}); };
    if (k < -4 || k > 4) return op(Op::POW, d, {x, number(d, static_cast<double>(k))});
    if (k == 1) return x;
    const int one = number(d, 1);
    if (k == 0) return one;
    if (k == -1) return over(one, x);
    if (k == -2) {
      const int r = over(one, x);
      return times(r, r);
    }
    const int square = times(x, x);
    switch (k) {
      case 2: return square;
      case 3: return times(square, x);
      case 4: return times(square, square);
      case -3: return over(over(one, square), x);
      default: return over(over(one, square), square);
    }
  }

  int integer_power(int x, std::int64_t k) {
    const DType d = at(x).dtype;
    if (k < 0) return inverse_power(x, integer(DType::kBool, k % 2 != 0));
    int r = -1, base = x;
    for (; k > 0; k >>= 1) {
      if (k & 1) r = r < 0 ? base : op(Op::MUL, d, {r, base});
      if (k > 1) base = op(Op::MUL, d, {base, base});
    }
    return r < 0 ? number(d, 1) : r;
  }
  // 1 for 1, +-1 for -1, else 0.
  int inverse_power(int x, int odd) {
    const DType d = at(x).dtype;
    const int one = number(d, 1), minus = number(d, -1);
    const int unit = where(compare(Op::EQ, x, minus), where(odd, minus, one), number(d, 0));
    return where(compare(Op::EQ, x, one), one, unit);
  }
  // Square and multiply over every bit that an exponent may have: no loop that runs on for one lane of a vector.
  int integer_power(int x, int exponent) {
    const DType d = at(x).dtype;
    const int zero = number(d, 0), two = number(d, 2);
    const auto odd = [&](int k) { return compare(Op::NE, op(Op::MOD, d, {k, two}, true), zero); };
    const int negative = compare(Op::LT, exponent, zero);
    int left = where(negative, zero, exponent), base = x, r = number(d, 1);
    const int n_bits = d == DType::kInt32 ? 31 : 63;
    for (int bit = 0; bit < n_bits; ++bit) {
      r = where(odd(left), op(Op::MUL, d, {r, base}), r);
      if (bit + 1 == n_bits) break;
      base = op(Op::MUL, d, {base, base});
      left = op(Op::DIV, d, {left, two}, true);
    }
    return where(negative, inverse_power(x, odd(exponent)), r);
  }

  int cast(Instr i, DType from) {
    const DType to = i.dtype;
    const int x = i.src[0];
    if (from == to) return x;
    if (to == DType::kBool) return compare(Op::NE, x, number(from, 0));
    if (!is_float(from) || is_float(to) || caps_.saturating_casts) return emit(std::move(i));
    // The first number above the range is a power of 2, exact in every float.
    const bool narrow = to == DType::kInt32;
    const double end = narrow ? 0x1p31 : 0x1p63;
    const int lowest = number(from, -end);
    const int low = compare(Op::LT, x, lowest);
    const int inside = both(compare(Op::LE, lowest, x), compare(Op::LT, x, number(from, end)));
    i.src[0] = where(inside, x, number(from, 0));
    const int r = emit(std::move(i));
    const std::int64_t least =
        narrow ? std::numeric_limits<std::int32_t>::min() : std::numeric_limits<std::int64_t>::min();
    const int most = where(compare(Op::NE, x, x), integer(to, 0), integer(to, -(least + 1)));
    return where(inside, r, where(low, integer(to, least), most));
  }

  // Lanes [0, n/2) with [n/2, n), down to one.
  int across(const Instr& i) {
    const Op o = reduction_op(static_cast<Reduction>(i.imm));
    int v = i.src[0];
    for (int lanes = at(v).lanes; lanes > 1;) {
      lanes /= 2;
      const auto half = [&](int first) {
        return emit({.code = Code::kPart, .dtype = i.dtype, .lanes = lanes, .src = {v}, .imm = first});
      };
      const int low = half(0), high = half(lanes);
      lanes_ = lanes;
      v = combine(o, low, high);
    }
    return v;
  }

  const Program& in_;
  const RenderCaps& caps_;
  Program out_;
  std::vector<int> at_;  // old register to new
  int lanes_ = 1;        // of what is being built
};

}  // namespace

Program lower_operations(const Program& p, const RenderCaps& caps) {
  return OperationLowering(p, caps).run();
}

}  // namespace tinyphys
