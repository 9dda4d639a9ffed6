#include "render/llvm_writer.hpp"

#include <array>
#include <bit>
#include <cinttypes>
#include <cstdio>

#include "render/library_name.hpp"
#include "support/philox.hpp"
#include "tinyphys/error.hpp"
#include "uop/uop.hpp"

namespace tinyphys {
namespace {

std::string vector_of(const std::string& t, int lanes) {
  return lanes == 1 ? t : "<" + std::to_string(lanes) + " x " + t + ">";
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
          (i.code == Code::kLoad || i.code == Code::kStore) && k == 0 && i.access != Access::kGather;
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
    case Op::LT: how = is_float(d) ? "olt" : "slt"; break;
    case Op::LE: how = is_float(d) ? "ole" : "sle"; break;
    case Op::EQ: how = is_float(d) ? "oeq" : "eq"; break;
    default: how = is_float(d) ? "une" : "ne"; break;
  }
  return emit(std::string(is_float(d) ? "fcmp " : "icmp ") + how + " " + type(d, lanes) + " " + a + ", " + b);
}

std::string LlvmWriter::binary(Op op, DType d, int lanes, const std::string& a, const std::string& b) {
  const bool real = is_float(d);
  const char* word = nullptr;
  switch (op) {
    case Op::ADD: word = real ? "fadd" : "add"; break;
    case Op::SUB: word = real ? "fsub" : "sub"; break;
    case Op::MUL: word = real ? "fmul" : "mul"; break;
    case Op::DIV: word = real ? "fdiv" : "sdiv"; break;
    case Op::MOD: word = real ? "frem" : "srem"; break;
    case Op::AND: word = "and"; break;
    default: word = "or"; break;
  }
  return emit(std::string(word) + " " + type(d, lanes) + " " + a + ", " + b);
}

// philox::draw over words that are kept in 64 bits each.
std::string LlvmWriter::philox(const Args& a, std::int64_t draw) {
  const philox::Draw d = philox::draw_of(draw);
  const auto constant = [&](std::uint64_t v) {
    return literal_vector(DType::kInt64, static_cast<std::int64_t>(v), a.lanes);
  };
  const auto op = [&](const char* word, const std::string& x, const std::string& y) {
    return emit(std::string(word) + " " + a.type + " " + x + ", " + y);
  };
  const std::string low_bits = constant(0xFFFFFFFF), word_bits = constant(32);
  const auto low = [&](const std::string& x) { return op("and", x, low_bits); };
  const auto high = [&](const std::string& x) { return op("lshr", x, word_bits); };
  std::string k0 = low(a.name[0]), k1 = high(a.name[0]);
  std::array<std::string, 4> c{low(a.name[1]), high(a.name[1]),
                               constant(static_cast<std::uint64_t>(d.stream)), constant(0)};
  for (int round = 0; round < philox::kRounds; ++round) {
    if (round > 0) {
      k0 = low(op("add", k0, constant(philox::kWeyl0)));
      k1 = low(op("add", k1, constant(philox::kWeyl1)));
    }
    const std::string x = op("mul", c[0], constant(philox::kMultiply0)),
                      y = op("mul", c[2], constant(philox::kMultiply1));
    c = {op("xor", op("xor", high(y), c[1]), k0), low(y), op("xor", op("xor", high(x), c[3]), k1), low(x)};
  }
  const auto first = static_cast<std::size_t>(2 * d.half);
  const std::string whole = op("or", op("shl", c[first], word_bits), c[first + 1]);
  return op("lshr", whole, constant(static_cast<std::uint64_t>(64 - d.bits)));
}

std::string LlvmWriter::cast(const Args& a, DType to) {
  const std::string t = type(to, a.lanes), from = a.type + " " + a.name[0] + " to " + t;
  if (is_float(a.dtype)) {
    if (to == DType::kFloat32) return emit("fptrunc " + from);
    if (to == DType::kFloat64) return emit("fpext " + from);
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
  switch (i.op) {
    case Op::NEG:
      return real ? emit("fneg " + a.type + " " + a.name[0])
                  : binary(Op::SUB, a.dtype, a.lanes, number(a.dtype, 0, a.lanes), a.name[0]);
    case Op::ABS: return intrinsic("fabs", a.dtype, a.lanes, a.name);
    case Op::SQRT: return intrinsic("sqrt", a.dtype, a.lanes, a.name);
    case Op::FLOOR: return intrinsic("floor", a.dtype, a.lanes, a.name);
    case Op::CEIL: return intrinsic("ceil", a.dtype, a.lanes, a.name);
    case Op::FMA: return intrinsic("fma", a.dtype, a.lanes, a.name);
    case Op::MAX: return intrinsic("smax", a.dtype, a.lanes, a.name);
    case Op::MIN: return intrinsic("smin", a.dtype, a.lanes, a.name);
    case Op::NOT:
      return emit("xor " + a.type + " " + a.name[0] + ", " + literal_vector(DType::kBool, 1, a.lanes));
    case Op::CAST: return cast(a, i.dtype);
    case Op::ADD:
    case Op::SUB:
    case Op::MUL:
    case Op::DIV:
    case Op::MOD:
    case Op::AND:
    case Op::OR: return binary(i.op, a.dtype, a.lanes, a.name[0], a.name[1]);
    case Op::LT:
    case Op::LE:
    case Op::EQ:
    case Op::NE: return compare(i.op, a.dtype, a.lanes, a.name[0], a.name[1]);
    case Op::PHILOX: return philox(a, i.imm);
    case Op::WHERE: return choose(a.name[0], a.type, a.name[1], a.name[2], a.lanes);
    default: break;
  }
  if (const char* f = library_name(i.op); f && real) return library(f, a.dtype, a.lanes, a.name);
  throw Error("compile", std::string(name(i.op)) + " of " + std::string(name(a.dtype)) + " is not defined",
              "", 0);
}

std::string LlvmWriter::part(const Instr& i) {
  const int r = i.src[0], lanes = program_.code[static_cast<std::size_t>(r)].lanes;
  const std::string v = operand(r, lanes), t = type(i.dtype, lanes);
  if (i.lanes == 1) return emit("extractelement " + t + " " + v + ", i64 " + std::to_string(i.imm));
  std::string m;
  for (int k = 0; k < i.lanes; ++k) m += (k ? ", i32 " : "i32 ") + std::to_string(i.imm + k);
  return emit("shufflevector " + t + " " + v + ", " + t + " poison, <" + std::to_string(i.lanes) +
              " x i32> <" + m + ">");
}

}  // namespace tinyphys
