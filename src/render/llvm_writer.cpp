#include "render/llvm_writer.hpp"

#include <array>
#include <bit>
#include <cinttypes>
#include <cstdio>

#include "tinyphys/error.hpp"
#include "uop/uop.hpp"

namespace tinyphys {
namespace {

std::string vector_of(const std::string& t, int lanes) {
  return lanes == 1 ? t : "<" + std::to_string(lanes) + " x " + t + ">";
}

// Integer powers, lane by lane; a negative exponent leaves 1 for 1, +-1 for -1 and 0 else.
constexpr const char* kIntegerPower = R"(define internal i64 @integer_power(i64 %x, i64 %k) #0 {
entry:
  %negative = icmp slt i64 %k, 0
  br i1 %negative, label %inverse, label %test
inverse:
  %one = icmp eq i64 %x, 1
  %minus = icmp eq i64 %x, -1
  %odd.k = trunc i64 %k to i1
  %sign = select i1 %odd.k, i64 -1, i64 1
  %unit = select i1 %minus, i64 %sign, i64 0
  %r.inverse = select i1 %one, i64 1, i64 %unit
  ret i64 %r.inverse
test:
  %r = phi i64 [ 1, %entry ], [ %r.next, %test ]
  %base = phi i64 [ %x, %entry ], [ %base.next, %test ]
  %left = phi i64 [ %k, %entry ], [ %left.next, %test ]
  %bit = trunc i64 %left to i1
  %product = mul i64 %r, %base
  %r.next = select i1 %bit, i64 %product, i64 %r
  %base.next = mul i64 %base, %base
  %left.next = lshr i64 %left, 1
  %done = icmp eq i64 %left.next, 0
  br i1 %done, label %exit, label %test
exit:
  ret i64 %r.next
})";

const char* library_name(Op op) {
  switch (op) {
    case Op::EXP: return "exp";
    case Op::EXPM1: return "expm1";
    case Op::LOG: return "log";
    case Op::LOG1P: return "log1p";
    case Op::SIN: return "sin";
    case Op::COS: return "cos";
    case Op::TAN: return "tan";
    case Op::ASIN: return "asin";
    case Op::ACOS: return "acos";
    case Op::ATAN: return "atan";
    case Op::SINH: return "sinh";
    case Op::COSH: return "cosh";
    case Op::TANH: return "tanh";
    case Op::ERF: return "erf";
    case Op::POW: return "pow";
    case Op::ATAN2: return "atan2";
    default: return nullptr;
  }
}

}  // namespace

LlvmWriter::LlvmWriter(const Program& p, const RenderTarget& t, std::set<std::string>& declarations)
    : program_(p), target_(t), declarations_(declarations), names_(p.code.size()), wanted_(p.code.size()) {
  auto lanes_of = [&](int r) { return p.code[static_cast<std::size_t>(r)].lanes; };
  for (const Instr& i : p.code) {
    if (i.lanes == 1 || i.code == Code::kLoop || i.code == Code::kLane || i.code == Code::kGet) continue;
    for (std::size_t k = 0; k < i.src.size(); ++k) {
      const int r = i.src[k];
      const bool variable = i.code == Code::kSet && k == 0;
      const bool address =
          (i.code == Code::kLoad || i.code == Code::kStore) && k == 0 && i.access == Access::kContiguous;
      if (lanes_of(r) == 1 && !variable && !address &&
          p.code[static_cast<std::size_t>(r)].code != Code::kConst)
        wanted_[static_cast<std::size_t>(r)].insert(i.lanes);
    }
  }
}

std::string LlvmWriter::type(DType d, int lanes) {
  switch (d) {
    case DType::kBool: return vector_of("i1", lanes);
    case DType::kInt32: return vector_of("i32", lanes);
    case DType::kInt64: return vector_of("i64", lanes);
    case DType::kFloat32: return vector_of("float", lanes);
    default: return vector_of("double", lanes);
  }
}
std::string LlvmWriter::memory_type(DType d, int lanes) {
  return d == DType::kBool ? vector_of("i8", lanes) : type(d, lanes);
}
std::string LlvmWriter::suffix(DType d) {
  switch (d) {
    case DType::kBool: return "i8";
    case DType::kInt32: return "i32";
    case DType::kInt64: return "i64";
    case DType::kFloat32: return "f32";
    default: return "f64";
  }
}

std::string LlvmWriter::literal(DType d, std::int64_t v) {
  if (d == DType::kBool) return v ? "true" : "false";
  if (!is_float(d)) return std::to_string(v);
  std::array<char, 24> text;
  std::snprintf(text.data(), text.size(), "0x%016" PRIX64, static_cast<std::uint64_t>(v));
  return text.data();
}
std::string LlvmWriter::literal_vector(DType d, std::int64_t v, int lanes) {
  if (lanes == 1) return literal(d, v);
  if (v == 0) return "zeroinitializer";
  return "splat (" + type(d, 1) + " " + literal(d, v) + ")";
}
std::string LlvmWriter::number(DType d, double v, int lanes) const {
  return literal_vector(d, is_float(d) ? bits(v) : static_cast<std::int64_t>(v), lanes);
}

std::string LlvmWriter::emit(const std::string& expression) {
  std::string name = "%t" + std::to_string(next_++);
  body += "  " + name + " = " + expression + "\n";
  return name;
}

std::string LlvmWriter::operand(int r, int lanes) const {
  const Instr& i = program_.code[static_cast<std::size_t>(r)];
  if (i.code == Code::kConst) return literal_vector(i.dtype, i.imm, lanes);
  const std::string& name = names_[static_cast<std::size_t>(r)];
  return i.lanes == lanes ? name : "%s" + std::to_string(r) + ".x" + std::to_string(lanes);
}

std::string LlvmWriter::splat(const std::string& scalar, DType d, int lanes) {
  const std::string t = type(d, lanes);
  const std::string one = emit("insertelement " + t + " poison, " + type(d, 1) + " " + scalar + ", i64 0");
  return emit("shufflevector " + t + " " + one + ", " + t + " poison, <" + std::to_string(lanes) +
              " x i32> zeroinitializer");
}

void LlvmWriter::broadcast(int r) {
  const Instr& i = program_.code[static_cast<std::size_t>(r)];
  for (int lanes : wanted_[static_cast<std::size_t>(r)]) {
    const std::string t = type(i.dtype, lanes);
    const std::string one = emit("insertelement " + t + " poison, " + type(i.dtype, 1) + " " +
                                 names_[static_cast<std::size_t>(r)] + ", i64 0");
    line("%s" + std::to_string(r) + ".x" + std::to_string(lanes) + " = shufflevector " + t + " " + one +
         ", " + t + " poison, <" + std::to_string(lanes) + " x i32> zeroinitializer");
  }
}

std::string LlvmWriter::intrinsic(const char* name, DType d, int lanes,
                                  const std::vector<std::string>& args) {
  const std::string t = type(d, lanes);
  std::string f =
      std::string("@llvm.") + name + "." + (lanes > 1 ? "v" + std::to_string(lanes) : "") + suffix(d);
  std::string declared, passed;
  for (const std::string& a : args) {
    declared += (declared.empty() ? "" : ", ") + t;
    passed += (passed.empty() ? "" : ", ") + t + " " + a;
  }
  declare("declare " + t + " " + f + "(" + declared + ")");
  return emit("call " + t + " " + f + "(" + passed + ")");
}

// One call of libm, or of libmvec in its naming scheme: _ZGV<isa>N<lanes><v per argument>_<name>.
std::string LlvmWriter::library_chunk(const char* name, DType d, int lanes,
                                      const std::vector<std::string>& args) {
  const std::string t = type(d, lanes);
  std::string f = std::string(name) + (d == DType::kFloat32 ? "f" : "");
  if (lanes > 1) {
    const std::size_t bytes = static_cast<std::size_t>(lanes) * item_size(d);
    const char isa = bytes == 64 ? 'e' : bytes == 32 ? 'd' : 'b';
    f = std::string("_ZGV") + isa + "N" + std::to_string(lanes) + std::string(args.size(), 'v') + "_" + f;
  }
  std::string declared, passed;
  for (const std::string& a : args) {
    declared += (declared.empty() ? "" : ", ") + t;
    passed += (passed.empty() ? "" : ", ") + t + " " + a;
  }
  declare("declare " + t + " @" + f + "(" + declared + ")");
  return emit("call " + t + " @" + f + "(" + passed + ")");
}

std::string LlvmWriter::library(const char* name, DType d, int lanes, const std::vector<std::string>& args) {
  if (lanes == 1) return library_chunk(name, d, 1, args);
  const std::string t = type(d, lanes);
  if (!target_.vector_math) {
    std::string v = "poison";
    for (int k = 0; k < lanes; ++k) {
      std::vector<std::string> one;
      for (const std::string& a : args)
        one.push_back(emit("extractelement " + t + " " + a + ", i64 " + std::to_string(k)));
      const std::string x = library_chunk(name, d, 1, one);
      v = emit("insertelement " + t + " " + v + ", " + type(d, 1) + " " + x + ", i64 " + std::to_string(k));
    }
    return v;
  }
  const int widest = target_.vector_bytes / static_cast<int>(item_size(d));
  const int narrowest = 16 / static_cast<int>(item_size(d));
  auto shuffle = [&](const std::string& a, int from_lanes, const std::string& b, int first, int count,
                     int valid) {
    const std::string u = type(d, from_lanes);
    std::string m;
    for (int k = 0; k < count; ++k)
      m += (k ? ", i32 " : "i32 ") + (first + k < valid ? std::to_string(first + k) : std::string("0"));
    return emit("shufflevector " + u + " " + a + ", " + u + " " + b + ", <" + std::to_string(count) +
                " x i32> <" + m + ">");
  };
  if (lanes < narrowest) {
    std::vector<std::string> wide;
    for (const std::string& a : args) wide.push_back(shuffle(a, lanes, "poison", 0, narrowest, lanes));
    return shuffle(library_chunk(name, d, narrowest, wide), narrowest, "poison", 0, lanes, lanes);
  }
  if (lanes <= widest) return library_chunk(name, d, lanes, args);
  std::vector<std::string> parts;
  for (int first = 0; first < lanes; first += widest) {
    std::vector<std::string> part;
    for (const std::string& a : args) part.push_back(shuffle(a, lanes, "poison", first, widest, lanes));
    parts.push_back(library_chunk(name, d, widest, part));
  }
  for (int each = widest; parts.size() > 1; each *= 2) {
    std::vector<std::string> joined;
    for (std::size_t k = 0; k < parts.size(); k += 2)
      joined.push_back(shuffle(parts[k], each, parts[k + 1], 0, 2 * each, 2 * each));
    parts = std::move(joined);
  }
  return parts[0];
}

std::string LlvmWriter::choose(const std::string& condition, const std::string& t, const std::string& a,
                               const std::string& b, int lanes) {
  return emit("select " + type(DType::kBool, lanes) + " " + condition + ", " + t + " " + a + ", " + t + " " +
              b);
}

std::string LlvmWriter::compare(Op op, DType d, int lanes, const std::string& a, const std::string& b) {
  const char* how = "";
  switch (op) {
    case Op::LT: how = is_float(d) ? "olt" : d == DType::kBool ? "ult" : "slt"; break;
    case Op::LE: how = is_float(d) ? "ole" : d == DType::kBool ? "ule" : "sle"; break;
    case Op::EQ: how = is_float(d) ? "oeq" : "eq"; break;
    default: how = is_float(d) ? "une" : "ne"; break;
  }
  return emit(std::string(is_float(d) ? "fcmp " : "icmp ") + how + " " + type(d, lanes) + " " + a + ", " + b);
}

std::string LlvmWriter::binary(Op op, DType d, int lanes, const std::string& a, const std::string& b) {
  const std::string t = type(d, lanes), args = " " + t + " " + a + ", " + b;
  const bool real = is_float(d), boolean = d == DType::kBool;
  switch (op) {
    case Op::ADD: return emit((real ? "fadd" : boolean ? "or" : "add") + args);
    case Op::SUB: return emit((real ? "fsub" : boolean ? "xor" : "sub") + args);
    case Op::MUL: return emit((real ? "fmul" : boolean ? "and" : "mul") + args);
    case Op::DIV: return emit("fdiv" + args);
    case Op::AND: return emit("and" + args);
    case Op::OR: return emit("or" + args);
    default: break;
  }
  const bool max = op == Op::MAX;
  if (boolean) return emit((max ? "or" : "and") + args);
  if (!real) return intrinsic(max ? "smax" : "smin", d, lanes, {a, b});
  // a >= b || a != a ? a : b; NaN wins from either side, as in NumPy
  const std::string wins = emit(std::string("fcmp ") + (max ? "oge" : "ole") + args);
  const std::string nan = emit("fcmp uno " + t + " " + a + ", " + a);
  return choose(emit("or " + type(DType::kBool, lanes) + " " + wins + ", " + nan), t, a, b, lanes);
}

// x / 0 = x mod 0 = 0, and MIN / -1 wraps: the hardware would trap on both.
std::string LlvmWriter::integer_division(const Instr& i, const Args& a) {
  const Instr& divisor = program_.code[static_cast<std::size_t>(i.src[1])];
  const bool safe = divisor.code == Code::kConst && divisor.imm != 0 && divisor.imm != -1;
  const std::string zero = number(a.dtype, 0, a.lanes), one = number(a.dtype, 1, a.lanes);
  std::string b = a.name[1], by_zero, by_minus;
  if (a.dtype == DType::kBool)
    return emit("and " + a.type + " " + a.name[0] + ", " + (i.op == Op::DIV ? b : zero));
  if (!safe) {
    by_zero = compare(Op::EQ, a.dtype, a.lanes, b, zero);
    by_minus = compare(Op::EQ, a.dtype, a.lanes, b, number(a.dtype, -1, a.lanes));
    const std::string either = emit("or " + type(DType::kBool, a.lanes) + " " + by_zero + ", " + by_minus);
    b = choose(either, a.type, one, b, a.lanes);
  }
  if (i.op == Op::DIV) {
    std::string q = emit("sdiv " + a.type + " " + a.name[0] + ", " + b);
    if (safe) return q;
    q = choose(by_minus, a.type, emit("sub " + a.type + " " + zero + ", " + a.name[0]), q, a.lanes);
    return choose(by_zero, a.type, zero, q, a.lanes);
  }
  const std::string r = emit("srem " + a.type + " " + a.name[0] + ", " + b);  // by 1 where it was 0 or -1: 0
  // The sign of the divisor: r != 0 and signs differ.
  const std::string differ =
      compare(Op::LT, a.dtype, a.lanes, emit("xor " + a.type + " " + r + ", " + b), zero);
  const std::string some = compare(Op::NE, a.dtype, a.lanes, r, zero);
  const std::string fix = emit("and " + type(DType::kBool, a.lanes) + " " + differ + ", " + some);
  return choose(fix, a.type, emit("add " + a.type + " " + r + ", " + b), r, a.lanes);
}

std::string LlvmWriter::float_modulo(const Args& a) {
  const std::string zero = number(a.dtype, 0, a.lanes), bools = type(DType::kBool, a.lanes);
  const std::string r = emit("frem " + a.type + " " + a.name[0] + ", " + a.name[1]);
  const std::string r_negative = compare(Op::LT, a.dtype, a.lanes, r, zero);
  const std::string b_negative = compare(Op::LT, a.dtype, a.lanes, a.name[1], zero);
  const std::string signs = emit("xor " + bools + " " + r_negative + ", " + b_negative);
  const std::string moved = emit("fadd " + a.type + " " + r + ", " + a.name[1]);
  const std::string result = choose(signs, a.type, moved, r, a.lanes);
  const std::string none = compare(Op::EQ, a.dtype, a.lanes, r, zero);
  return choose(none, a.type, intrinsic("copysign", a.dtype, a.lanes, {zero, a.name[1]}), result, a.lanes);
}

std::string LlvmWriter::integer_power(const Args& a) {
  declare(kIntegerPower);
  const bool narrow = a.dtype == DType::kInt32;
  std::string v = "poison";
  for (int k = 0; k < a.lanes; ++k) {
    std::vector<std::string> one;
    for (const std::string& x : a.name) {
      one.push_back(a.lanes == 1 ? x
                                 : emit("extractelement " + a.type + " " + x + ", i64 " + std::to_string(k)));
      if (narrow) one.back() = emit("sext i32 " + one.back() + " to i64");
    }
    std::string r = emit("call i64 @integer_power(i64 " + one[0] + ", i64 " + one[1] + ")");
    if (narrow) r = emit("trunc i64 " + r + " to i32");
    v = a.lanes == 1 ? r
                     : emit("insertelement " + a.type + " " + v + ", " + type(a.dtype, 1) + " " + r +
                            ", i64 " + std::to_string(k));
  }
  return v;
}

// Up to |k| = 4 by multiplication, beyond by pow (the meaning evaluate.hpp gives it).
std::string LlvmWriter::power(const Args& a, std::int64_t k) {
  const std::string& x = a.name[0];
  if (!is_float(a.dtype)) {
    if (k < 0) {  // 1 -> 1, -1 -> +-1, else 0
      const std::string one = number(a.dtype, 1, a.lanes), minus = number(a.dtype, -1, a.lanes),
                        zero = number(a.dtype, 0, a.lanes);
      const std::string r =
          choose(compare(Op::EQ, a.dtype, a.lanes, x, minus), a.type, k % 2 ? minus : one, zero, a.lanes);
      return choose(compare(Op::EQ, a.dtype, a.lanes, x, one), a.type, one, r, a.lanes);
    }
    std::string r = number(a.dtype, 1, a.lanes), base = x;
    for (; k > 0; k >>= 1) {
      if (k & 1) r = binary(Op::MUL, a.dtype, a.lanes, r, base);
      if (k > 1) base = binary(Op::MUL, a.dtype, a.lanes, base, base);
    }
    return r;
  }
  const std::int64_t m = k < 0 ? -k : k;
  if (m > 4) return library("pow", a.dtype, a.lanes, {x, number(a.dtype, static_cast<double>(k), a.lanes)});
  const std::string one = number(a.dtype, 1, a.lanes);
  auto times = [&](const std::string& p, const std::string& q) {
    return binary(Op::MUL, a.dtype, a.lanes, p, q);
  };
  auto over = [&](const std::string& p, const std::string& q) {
    return binary(Op::DIV, a.dtype, a.lanes, p, q);
  };
  if (k == 0) return one;
  if (k == 1) return x;
  if (k == -1) return over(one, x);
  if (k == -2) {
    const std::string r = over(one, x);
    return times(r, r);
  }
  const std::string square = times(x, x);
  switch (k) {
    case 2: return square;
    case 3: return times(square, x);
    case 4: return times(square, square);
    case -3: return over(over(one, square), x);
    default: return over(over(one, square), square);
  }
}

std::string LlvmWriter::cast(const Args& a, DType to) {
  if (a.dtype == to) return a.name[0];
  const std::string t = type(to, a.lanes), from = a.type + " " + a.name[0] + " to " + t;
  if (to == DType::kBool) return compare(Op::NE, a.dtype, a.lanes, a.name[0], number(a.dtype, 0, a.lanes));
  if (is_float(a.dtype)) {
    if (to == DType::kFloat32) return emit("fptrunc " + from);
    if (to == DType::kFloat64) return emit("fpext " + from);
    // Saturating, NaN to 0: a plain conversion of what does not fit has no defined value.
    const std::string v = a.lanes > 1 ? "v" + std::to_string(a.lanes) : "";
    const std::string f = "@llvm.fptosi.sat." + v + suffix(to) + "." + v + suffix(a.dtype);
    declare("declare " + t + " " + f + "(" + a.type + ")");
    return emit("call " + t + " " + f + "(" + a.type + " " + a.name[0] + ")");
  }
  if (is_float(to)) return emit((a.dtype == DType::kBool ? "uitofp " : "sitofp ") + from);
  if (a.dtype == DType::kBool) return emit("zext " + from);
  return emit((to == DType::kInt32 ? "trunc " : "sext ") + from);
}

std::string LlvmWriter::arithmetic(const Instr& i) {
  Args a;
  a.dtype = program_.code[static_cast<std::size_t>(i.src[i.op == Op::WHERE ? 1 : 0])].dtype;
  a.lanes = i.lanes;
  a.type = type(a.dtype, a.lanes);
  for (int r : i.src) a.name.push_back(operand(r, a.lanes));
  const bool real = is_float(a.dtype);
  const std::string zero = number(a.dtype, 0, a.lanes);
  switch (i.op) {
    case Op::NEG:
      if (a.dtype == DType::kBool) return a.name[0];
      return real ? emit("fneg " + a.type + " " + a.name[0])
                  : emit("sub " + a.type + " " + zero + ", " + a.name[0]);
    case Op::ABS: {
      if (a.dtype == DType::kBool) return a.name[0];
      if (real) return intrinsic("fabs", a.dtype, a.lanes, {a.name[0]});
      const std::string negative = compare(Op::LT, a.dtype, a.lanes, a.name[0], zero);
      return choose(negative, a.type, emit("sub " + a.type + " " + zero + ", " + a.name[0]), a.name[0],
                    a.lanes);
    }
    case Op::SIGN: {
      if (a.dtype == DType::kBool) return a.name[0];
      const std::string& x = a.name[0];
      std::string v =
          real ? choose(compare(Op::EQ, a.dtype, a.lanes, x, zero), a.type, zero, x, a.lanes) : zero;
      v = choose(compare(Op::LT, a.dtype, a.lanes, x, zero), a.type, number(a.dtype, -1, a.lanes), v,
                 a.lanes);
      return choose(compare(Op::LT, a.dtype, a.lanes, zero, x), a.type, number(a.dtype, 1, a.lanes), v,
                    a.lanes);
    }
    case Op::SQRT: return intrinsic("sqrt", a.dtype, a.lanes, {a.name[0]});
    case Op::FLOOR:
    case Op::CEIL:
      return real ? intrinsic(i.op == Op::FLOOR ? "floor" : "ceil", a.dtype, a.lanes, {a.name[0]})
                  : a.name[0];
    case Op::NOT:
      return emit("xor " + a.type + " " + a.name[0] + ", " + literal_vector(DType::kBool, 1, a.lanes));
    case Op::CAST: return cast(a, i.dtype);
    case Op::POWI: return power(a, i.imm);
    case Op::DIV:
    case Op::MOD:
      if (!real) return integer_division(i, a);
      return i.op == Op::DIV ? binary(i.op, a.dtype, a.lanes, a.name[0], a.name[1]) : float_modulo(a);
    case Op::ADD:
    case Op::SUB:
    case Op::MUL:
    case Op::MAX:
    case Op::MIN:
    case Op::AND:
    case Op::OR: return binary(i.op, a.dtype, a.lanes, a.name[0], a.name[1]);
    case Op::LT:
    case Op::LE:
    case Op::EQ:
    case Op::NE: return compare(i.op, a.dtype, a.lanes, a.name[0], a.name[1]);
    case Op::WHERE: return choose(a.name[0], a.type, a.name[1], a.name[2], a.lanes);
    case Op::FMA: return intrinsic("fma", a.dtype, a.lanes, a.name);
    default: break;
  }
  if (i.op == Op::POW && is_integer(a.dtype)) return integer_power(a);
  if (const char* f = library_name(i.op); f && real) return library(f, a.dtype, a.lanes, a.name);
  throw Error("compile", std::string(name(i.op)) + " of " + std::string(name(a.dtype)) + " is not defined",
              "", 0);
}

std::string LlvmWriter::across(const Instr& i) {
  const Op op = static_cast<Reduction>(i.imm) == Reduction::kSum    ? Op::ADD
                : static_cast<Reduction>(i.imm) == Reduction::kProd ? Op::MUL
                : static_cast<Reduction>(i.imm) == Reduction::kMax  ? Op::MAX
                                                                    : Op::MIN;
  int lanes = program_.code[static_cast<std::size_t>(i.src[0])].lanes;
  std::string v = operand(i.src[0], lanes);
  for (; lanes > 1; lanes /= 2) {
    const std::string t = type(i.dtype, lanes), n = std::to_string(lanes / 2);
    auto half = [&](int first) {
      std::string m;
      for (int k = 0; k < lanes / 2; ++k) m += (k ? ", i32 " : "i32 ") + std::to_string(first + k);
      return emit("shufflevector " + t + " " + v + ", " + t + " poison, <" + n + " x i32> <" + m + ">");
    };
    const std::string low = half(0), high = half(lanes / 2);
    if (lanes == 2) {
      const std::string one = type(i.dtype, 1);
      const std::string a = emit("extractelement <1 x " + one + "> " + low + ", i64 0");
      v = binary(op, i.dtype, 1, a, emit("extractelement <1 x " + one + "> " + high + ", i64 0"));
    } else {
      v = binary(op, i.dtype, lanes / 2, low, high);
    }
  }
  return v;
}

}  // namespace tinyphys
