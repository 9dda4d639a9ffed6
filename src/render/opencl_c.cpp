#include "render/opencl_c.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include "render/library_name.hpp"
#include "support/philox.hpp"
#include "tinyphys/error.hpp"
#include "uop/uop.hpp"

namespace tinyphys {
namespace {

constexpr int kWidestVector = 16;  // that the language has

std::string str(std::int64_t n) { return std::to_string(n); }

const char* scalar_type(DType d) {
  switch (d) {
    case DType::kBool:
    case DType::kInt32: return "int";  // a bool is 0 or 1; in vectors 0 or -1
    case DType::kInt64: return "long";
    case DType::kFloat32: return "float";
    default: return "double";
  }
}
std::string type(DType d, int width) { return scalar_type(d) + (width == 1 ? std::string() : str(width)); }
std::string memory_type(DType d, int width) {
  return d == DType::kBool ? "uchar" + (width == 1 ? std::string() : str(width)) : type(d, width);
}
std::string unsigned_type(DType d, int width) { return "u" + type(d, width); }

// As the bits that they are.
std::string literal(DType d, std::int64_t bits) {
  std::array<char, 48> text{};
  switch (d) {
    case DType::kBool: return bits ? "1" : "0";
    case DType::kInt32:
      return bits == INT32_MIN ? "(-2147483647 - 1)" : "(" + str(static_cast<std::int32_t>(bits)) + ")";
    case DType::kInt64: return bits == INT64_MIN ? "(-9223372036854775807L - 1)" : "(" + str(bits) + "L)";
    case DType::kFloat32: {
      const auto v = static_cast<float>(from_bits(bits));
      if (std::isfinite(v))
        std::snprintf(text.data(), text.size(), "(%af)", static_cast<double>(v));
      else
        std::snprintf(text.data(), text.size(), "as_float(0x%08" PRIX32 "u)",
                      std::bit_cast<std::uint32_t>(v));
      return text.data();
    }
    default: {
      const double v = from_bits(bits);
      if (std::isfinite(v))
        std::snprintf(text.data(), text.size(), "(%a)", v);
      else
        std::snprintf(text.data(), text.size(), "as_double(0x%016" PRIX64 "ul)",
                      static_cast<std::uint64_t>(bits));
      return text.data();
    }
  }
}

// Some that are instructions elsewhere are functions here.
const char* built_in(Op op) {
  switch (op) {
    case Op::ABS: return "fabs";
    case Op::SQRT: return "sqrt";
    case Op::FLOOR: return "floor";
    case Op::CEIL: return "ceil";
    case Op::FMA: return "fma";
    default: return library_name(op);
  }
}

// ".s4567"; ".s0" for one lane.
std::string lanes_of(int first, int count) {
  std::string out = ".s";
  for (int k = first; k < first + count; ++k) out += "0123456789abcdef"[k];
  return out;
}

// What the parts of a kernel share: functions and types that are named in the text.
class Prelude {
 public:
  // A vector in memory, aligned as one element.
  std::string packed(DType d, int width) {
    const std::string t = memory_type(d, width), name = "packed_" + t;
    add(name, "typedef struct __attribute__((packed)) {\n  " + t + " v;\n} " + name + ";\n");
    return name;
  }
  // Stores the first n lanes.
  std::string store_some(DType d, int width) {
    const std::string t = memory_type(d, width), one = memory_type(d, 1), name = "store_some_" + t;
    add(name, "static void " + name + "(__global " + one + "* to, " + t + " v, long n) {\n  " + one +
                  " lane[" + str(width) + "];\n  vstore" + str(width) +
                  "(v, 0, lane);\n  for (long k = 0; k < min(n, " + str(width) +
                  "L); ++k) to[k] = lane[k];\n}\n");
    return name;
  }
  // philox::draw over words that are kept in 64 bits each.
  std::string philox(std::int64_t draw, int width) {
    const philox::Draw d = philox::draw_of(draw);
    const std::string t = type(DType::kInt64, width), u = unsigned_type(DType::kInt64, width);
    const std::string name = "philox_" + str(draw) + "_" + t;
    const auto word = [](std::uint64_t v) {
      std::array<char, 24> text{};
      std::snprintf(text.data(), text.size(), "0x%" PRIX64 "ul", v);
      return std::string(text.data());
    };
    std::string f = "static " + t + " " + name + "(" + t + " key, " + t + " counter) {\n";
    f += "  const " + u + " low = (" + u + ")(0xFFFFFFFFul);\n";
    f += "  " + u + " k0 = as_" + u + "(key) & low, k1 = as_" + u + "(key) >> 32;\n";
    f += "  " + u + " c0 = as_" + u + "(counter) & low, c1 = as_" + u + "(counter) >> 32, c2 = (" + u + ")(" +
         word(static_cast<std::uint64_t>(d.stream)) + "), c3 = (" + u + ")(0ul);\n";
    f += "  for (int round = 0; round < " + str(philox::kRounds) + "; ++round) {\n";
    f += "    const " + u + " x = c0 * " + word(philox::kMultiply0) + ", y = c2 * " +
         word(philox::kMultiply1) + ";\n";
    f += "    c0 = (y >> 32) ^ c1 ^ k0;\n    c1 = y & low;\n    c2 = (x >> 32) ^ c3 ^ k1;\n    c3 = x & "
         "low;\n";
    f += "    k0 = (k0 + " + word(philox::kWeyl0) + ") & low;\n    k1 = (k1 + " + word(philox::kWeyl1) +
         ") & low;\n  }\n";
    const std::string high = d.half ? "c2" : "c0", low = d.half ? "c3" : "c1";
    f += "  return as_" + t + "(((" + high + " << 32) | " + low + ") >> " + str(64 - d.bits) + ");\n}\n";
    add(name, f);
    return name;
  }
  void uses(DType d) { fp64_ = fp64_ || d == DType::kFloat64; }

  std::string text() const {
    std::string out;
    if (fp64_) out += "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n";
    out += "#pragma OPENCL FP_CONTRACT OFF\n";
    // Element by element, one instruction where the compiler has a word for it.
    out +=
        "#if defined(__has_builtin)\n#if __has_builtin(__builtin_convertvector)\n"
        "#define TO(type, x) __builtin_convertvector(x, type)\n#endif\n#endif\n"
        "#ifndef TO\n#define TO(type, x) convert_##type(x)\n#endif\n";
    for (const std::string& name : order_) out += texts_.at(name);
    return out;
  }

 private:
  void add(const std::string& name, const std::string& text) {
    if (texts_.emplace(name, text).second) order_.push_back(name);
  }
  std::map<std::string, std::string> texts_;
  std::vector<std::string> order_;
  bool fp64_ = false;
};

// Renders one program. A register of more lanes than a vector has is several variables, r5_0, r5_1, ...
class Renderer {
 public:
  Renderer(const Program& p, const OpenClTarget& t, Prelude& prelude)
      : program_(p), target_(t), prelude_(prelude) {
    int singles = 0, others = 0;
    for (const Instr& i : p.code) {
      prelude.uses(i.dtype);
      if (i.code == Code::kOp && i.lanes > 1) ++(i.dtype == DType::kFloat32 ? singles : others);
    }
    vector_ = std::clamp(target_.vector_bytes / (singles > others ? 4 : 8), 2, kWidestVector);
  }

  std::string run(std::size_t part) {
    const OpenClArguments a = opencl_arguments(program_);
    std::string head, pointers;
    const auto pointer = [&](const char* qualifier, const char* name, std::int64_t n, DType d) {
      const std::string t = std::string("__global ") + qualifier + memory_type(d, 1) + "*";
      head += (head.empty() ? "" : ", ") + t + " " + name + str(n);
      pointers += std::string("  ") + name + str(n) +
                  " += " + str(static_cast<std::int64_t>(kOpenClMargin / item_size(d))) + ";\n";
    };
    std::map<std::int64_t, DType> out, in;
    for (const Instr& i : program_.code) {
      if (i.code == Code::kStore) out[i.imm] = i.dtype;
      if (i.code == Code::kLoad) in[i.imm] = i.dtype;
    }
    for (const std::int64_t n : a.outputs) pointer("", "out", n, out[n]);
    for (const std::int64_t n : a.inputs) pointer("const ", "in", n, in[n]);
    for (const auto& s : a.slots)
      head += std::string(head.empty() ? "" : ", ") + scalar_type(s.dtype) + " s" + str(s.number);
    head += std::string(head.empty() ? "" : ", ") + "long each, long units";
    if (a.steps) head += ", long first, long last";
    const std::string group = str(target_.work_group);
    std::string text = "__kernel __attribute__((reqd_work_group_size(" + group + ", 1, 1))) void kernel_" +
                       str(static_cast<std::int64_t>(part)) + "(" + head + ") {\n";
    text += "  const long begin = (long)get_global_id(0) * each;\n  if (begin >= units) return;\n";
    text += "  const long end = min(begin + each, units);\n" + pointers;
    for (std::size_t i = 0; i < program_.code.size(); ++i) instruction(static_cast<int>(i));
    return text + body_ + "}\n";
  }

 private:
  const Instr& at(int r) const { return program_.code[static_cast<std::size_t>(r)]; }

  // --- registers ---

  int width(int lanes) const { return std::min(lanes, vector_); }
  int pieces(int lanes) const { return lanes / width(lanes); }
  std::string piece_name(const char* prefix, int r, int lanes, int piece) const {
    return prefix + str(r) + (pieces(lanes) > 1 ? "_" + str(piece) : "");
  }
  // Piece `piece` of register r as a vector of an instruction with so many lanes.
  std::string operand(int r, int lanes, int piece) const {
    const Instr& i = at(r);
    const int w = width(lanes);
    if (i.code == Code::kConst) {
      if (w == 1) return literal(i.dtype, i.imm);
      return "(" + type(i.dtype, w) + ")(" +
             (i.dtype == DType::kBool && i.imm ? "-1" : literal(i.dtype, i.imm)) + ")";
    }
    const std::string name = scalar_name(r);
    if (i.lanes == lanes) return lanes == 1 ? name : piece_name("r", r, lanes, piece);
    return "(" + type(i.dtype, w) + ")(" + (i.dtype == DType::kBool ? "-" : "") + name + ")";
  }
  std::string scalar_name(int r) const {
    switch (at(r).code) {
      case Code::kBegin: return "begin";
      case Code::kFinish: return "end";
      case Code::kLoop: return "i" + str(r);
      case Code::kConst: return literal(at(r).dtype, at(r).imm);
      default: return "r" + str(r);
    }
  }
  std::string one(int r) const { return operand(r, 1, 0); }

  void line(const std::string& text) {
    body_ += std::string(static_cast<std::size_t>(indent_) * 2, ' ') + text + "\n";
  }
  void define(int r, DType d, int lanes, int piece, const std::string& value) {
    line("const " + type(d, width(lanes)) + " " + piece_name("r", r, lanes, piece) + " = " + value + ";");
  }

  static std::string convert(const std::string& x, DType from, DType to, int w) {
    if (type(from, w) == type(to, w)) return x;
    return w == 1 ? "(" + type(to, 1) + ")(" + x + ")" : "TO(" + type(to, w) + ", " + x + ")";
  }
  // A mask of ints as one of integers as wide as a dtype.
  static std::string mask_for(const std::string& m, DType d, int w) {
    const DType as = item_size(d) == 8 ? DType::kInt64 : DType::kInt32;
    return w == 1 ? m : convert(m, DType::kInt32, as, w);
  }
  static std::string choose(const std::string& m, DType d, int w, const std::string& a,
                            const std::string& b) {
    return mask_for(m, d, w) + " ? " + a + " : " + b;
  }

  // --- instructions ---

  void instruction(int r) {
    const Instr& i = at(r);
    switch (i.code) {
      case Code::kConst:
      case Code::kBegin:
      case Code::kFinish: return;
      case Code::kSlot: return slot(r, i);
      case Code::kLoop: return open(r, i);
      case Code::kEnd: return close(i);
      case Code::kAcross: throw Error("compile", "a reduction across lanes was not lowered", "", 0);
      case Code::kStore: return store(i);
      case Code::kLoad: return load(r, i);
      case Code::kPart: return part(r, i);
      default: break;
    }
    for (int k = 0; k < pieces(i.lanes); ++k) switch (i.code) {
        case Code::kLane: define(r, i.dtype, i.lanes, k, lane(i, k)); break;
        case Code::kOp: define(r, i.dtype, i.lanes, k, arithmetic(i, k)); break;
        case Code::kVar:
          line(type(i.dtype, width(i.lanes)) + " " + piece_name("v", r, i.lanes, k) + " = " +
               operand(i.src[0], i.lanes, k) + ";");
          break;
        case Code::kGet: define(r, i.dtype, i.lanes, k, piece_name("v", i.src[0], i.lanes, k)); break;
        default: assign(i, k); break;
      }
  }

  void slot(int r, const Instr& i) {
    if (i.imm == kFirstStep || i.imm == kLastStep)
      return define(r, i.dtype, 1, 0, i.imm == kFirstStep ? "first" : "last");
    define(r, i.dtype, 1, 0, "s" + str(i.imm) + (i.dtype == DType::kBool ? " != 0" : ""));
  }

  void open(int r, const Instr& i) {
    const std::string n = str(r);
    line("for (long i" + n + " = " + one(i.src[0]) + "; i" + n + " < " + one(i.src[1]) + "; i" + n +
         " += " + str(i.step) + ") {");
    ++indent_;
    if (i.masked) line("const long n" + n + " = " + one(i.src[1]) + " - i" + n + ";");
  }
  void close(const Instr& end) {
    if (end.src.size() > 1) line("if (" + one(end.src[1]) + ") break;");
    --indent_;
    line("}");
  }

  static std::string counting(DType d, int w, int first) {
    std::string v = "(" + type(d, w) + ")(";
    for (int k = 0; k < w; ++k) v += (k ? ", " : "") + str(first + k);
    return v + ")";
  }
  std::string lane(const Instr& i, int piece) const {
    const int w = width(i.lanes);
    return operand(i.src[0], i.lanes, piece) + " + " + counting(DType::kInt64, w, piece * w);
  }

  bool masked(const Instr& i) const { return i.loop >= 0 && at(i.loop).masked && i.lanes > 1; }
  // The lanes of a piece that may touch memory, as ints; empty when all may.
  std::string mask(const Instr& i, int gate, int piece) const {
    const int w = width(i.lanes);
    std::string m;
    if (masked(i))
      m = "(" + counting(DType::kInt32, w, piece * w) + " < (" + type(DType::kInt32, w) + ")((int)min(n" +
          str(i.loop) + ", " + str(i.lanes) + "L)))";
    if (gate < 0) return m;
    const std::string g = operand(gate, i.lanes, piece);
    return m.empty() ? g : "(" + m + " & " + g + ")";
  }

  void load(int r, const Instr& i) {
    const std::string from = "in" + str(i.imm);
    const int gate = i.src.size() > 1 ? i.src[1] : -1, w = width(i.lanes);
    const bool real = is_float(i.dtype);
    if (i.lanes == 1) {
      std::string index = one(i.src[0]);
      // A closed gate reads element 0 in place of one that may not exist.
      if (gate >= 0) index = one(gate) + " ? " + index + " : 0L";
      return define(r, i.dtype, 1, 0, from + "[" + index + "]" + (i.dtype == DType::kBool ? " != 0" : ""));
    }
    const std::string name = "x" + str(r);
    if (i.access == Access::kContiguous) {
      std::string index = one(i.src[0]);
      if (gate >= 0) {  // a vector that no gate opens may be far outside
        const std::string lanes = str(i.lanes - 1);
        index = "(ulong)(" + index + " + " + lanes + ") < " + str(i.size + i.lanes - 1) + "ul ? " + index +
                " : 0L";
      }
      line("__global const " + memory_type(i.dtype, 1) + "* " + name + " = " + from + " + (" + index + ");");
    }
    for (int k = 0; k < pieces(i.lanes); ++k) {
      std::string v;
      const std::string m = mask(i, gate, k);
      if (i.access == Access::kPairs) {
        v = "(" + memory_type(i.dtype, w) + ")(";
        for (int l = k * w; l < (k + 1) * w; ++l) {
          const std::string index = one(i.src[0]) + " + " + str(2 * l);
          v += (l > k * w ? ", " : "") + from + "[" +
               (masked(i) && l > 0 ? "n" + str(i.loop) + " > " + str(l) + " ? " + index + " : 0L" : index) +
               "]";
        }
        v += ")";
        if (i.dtype == DType::kBool) v = "TO(" + type(DType::kInt32, w) + ", " + v + ") != 0";
      } else if (i.access == Access::kContiguous) {
        v = "((__global const " + prelude_.packed(i.dtype, w) + "*)(" + name + " + " + str(k * w) + "))->v";
        if (i.dtype == DType::kBool) v = "TO(" + type(DType::kInt32, w) + ", " + v + ") != 0";
        // What lies outside may be taken for an index.
        if (!real && !m.empty())
          v = choose(m, i.dtype, w, i.dtype == DType::kBool ? "(" + v + ")" : v, zero(i.dtype, w));
      } else {
        const std::string x = pieces(i.lanes) > 1 ? name + "_" + str(k) : name,
                          index = operand(i.src[0], i.lanes, k);
        line("const " + type(DType::kInt64, w) + " " + x + " = " +
             (m.empty() ? index : choose(m, DType::kInt64, w, index, zero(DType::kInt64, w))) + ";");
        v = "(" + memory_type(i.dtype, w) + ")(";
        for (int l = 0; l < w; ++l) v += (l ? ", " : "") + from + "[" + x + lanes_of(l, 1) + "]";
        v += ")";
        if (i.dtype == DType::kBool) v = "TO(" + type(DType::kInt32, w) + ", " + v + ") != 0";
      }
      define(r, i.dtype, i.lanes, k, v);
    }
  }
  static std::string zero(DType d, int w) { return "(" + type(d, w) + ")(0)"; }

  // Piece `piece` of value k as it is in memory.
  std::string stored(const Instr& i, int piece, std::size_t k = 1) const {
    const std::string v = operand(i.src[k], i.lanes, piece);
    const int w = width(i.lanes);
    if (i.dtype != DType::kBool) return v;
    return w == 1 ? "(uchar)(" + v + ")" : "TO(" + memory_type(i.dtype, w) + ", -" + v + ")";
  }

  void store(const Instr& i) {
    const std::string to = "out" + str(i.imm);
    const int w = width(i.lanes);
    if (i.lanes == 1) return line(to + "[" + one(i.src[0]) + "] = " + stored(i, 0) + ";");
    if (i.access == Access::kPairs) {
      for (int l = 0; l < i.lanes; ++l) {
        const std::string lane = lanes_of(l % w, 1), at = to + "[" + one(i.src[0]) + " + ";
        line((masked(i) && l > 0 ? "if (n" + str(i.loop) + " > " + str(l) + ") { " : "{ ") + at + str(2 * l) +
             "] = (" + stored(i, l / w) + ")" + lane + "; " + at + str(2 * l + 1) + "] = (" +
             stored(i, l / w, 2) + ")" + lane + "; }");
      }
      return;
    }
    if (i.access == Access::kGather) {
      for (int l = 0; l < i.lanes; ++l) {
        const std::string lane = lanes_of(l % w, 1),
                          guard = masked(i) && l > 0 ? "if (n" + str(i.loop) + " > " + str(l) + ") " : "";
        line(guard + to + "[(" + operand(i.src[0], i.lanes, l / w) + ")" + lane + "] = (" + stored(i, l / w) +
             ")" + lane + ";");
      }
      return;
    }
    const std::string p = to + " + " + one(i.src[0]);
    const auto place = [&](int k) { return "(" + p + " + " + str(k * w) + ")"; };
    if (masked(i)) {
      line("if (n" + str(i.loop) + " < " + str(i.lanes) + ") {");
      for (int k = 0; k < pieces(i.lanes); ++k)
        line("  " + prelude_.store_some(i.dtype, w) + "(" + place(k) + ", " + stored(i, k) + ", n" +
             str(i.loop) + " - " + str(k * w) + ");");
      line("} else {");
      ++indent_;
    }
    for (int k = 0; k < pieces(i.lanes); ++k)
      line("((__global " + prelude_.packed(i.dtype, w) + "*)" + place(k) + ")->v = " + stored(i, k) + ";");
    if (masked(i)) {
      --indent_;
      line("}");
    }
  }

  void assign(const Instr& i, int piece) {
    const std::string name = piece_name("v", i.src[0], i.lanes, piece), v = operand(i.src[1], i.lanes, piece);
    const std::string m = mask(i, -1, piece);
    line(name + " = " + (m.empty() ? v : choose(m, i.dtype, width(i.lanes), v, name)) + ";");
  }

  void part(int r, const Instr& i) {
    const int from = i.src[0], lanes = at(from).lanes, w = width(lanes), count = width(i.lanes);
    for (int k = 0; k < pieces(i.lanes); ++k) {
      const int first = static_cast<int>(i.imm) + k * count;
      std::string v = operand(from, lanes, first / w);
      if (count < w) v += lanes_of(first % w, count);
      if (i.lanes == 1 && i.dtype == DType::kBool) v += " != 0";
      define(r, i.dtype, i.lanes, k, v);
    }
  }

  // --- arithmetic ---

  std::string arithmetic(const Instr& i, int piece) {
    const DType d = at(i.src[i.op == Op::WHERE ? 1 : 0]).dtype;  // of the sources
    const int w = width(i.lanes);
    const bool real = is_float(d);
    std::vector<std::string> x;
    for (int r : i.src) x.push_back(operand(r, i.lanes, piece));
    // Integers wrap, which only unsigned ones do in C.
    const auto wraps = [&](const std::string& a, const char* sign, const std::string& b) {
      const std::string u = "as_" + unsigned_type(d, w);
      return "as_" + type(d, w) + "(" + u + "(" + a + ") " + sign + " " + u + "(" + b + "))";
    };
    const auto infix = [&](const char* sign) { return x[0] + " " + sign + " " + x[1]; };
    // A comparison gives integers as wide as what it compares.
    const auto compare = [&](const char* sign) {
      const std::string v = infix(sign);
      return w > 1 && item_size(d) == 8 ? convert(v, DType::kInt64, DType::kInt32, w) : v;
    };
    switch (i.op) {
      case Op::NEG: return real ? "-" + x[0] : wraps(zero(d, w), "-", x[0]);
      case Op::NOT: return (w == 1 ? "!" : "~") + x[0];
      case Op::CAST: return cast(x[0], d, i.dtype, w);
      case Op::ADD: return real ? infix("+") : wraps(x[0], "+", x[1]);
      case Op::SUB: return real ? infix("-") : wraps(x[0], "-", x[1]);
      case Op::MUL: return real ? infix("*") : wraps(x[0], "*", x[1]);
      case Op::DIV: return infix("/");
      case Op::MOD: return real ? "fmod(" + x[0] + ", " + x[1] + ")" : infix("%");
      case Op::AND: return infix("&");
      case Op::OR: return infix("|");
      case Op::LT: return compare("<");
      case Op::LE: return compare("<=");
      case Op::EQ: return compare("==");
      case Op::NE: return compare("!=");
      case Op::MAX: return "max(" + x[0] + ", " + x[1] + ")";
      case Op::MIN: return "min(" + x[0] + ", " + x[1] + ")";
      case Op::WHERE: return choose(x[0], d, w, x[1], x[2]);
      case Op::PHILOX: return prelude_.philox(i.imm, w) + "(" + x[0] + ", " + x[1] + ")";
      default: break;
    }
    if (const char* f = built_in(i.op); f && real) {
      std::string v = std::string(f) + "(";
      for (std::size_t k = 0; k < x.size(); ++k) v += (k ? ", " : "") + x[k];
      return v + ")";
    }
    throw Error("compile", std::string(name(i.op)) + " of " + std::string(name(d)) + " is not defined", "",
                0);
  }

  static std::string cast(const std::string& x, DType from, DType to, int w) {
    if (from == DType::kBool && w > 1) return convert("(-" + x + ")", DType::kInt32, to, w);
    return convert(x, from, to, w);
  }

  const Program& program_;
  const OpenClTarget& target_;
  Prelude& prelude_;
  std::string body_;
  int vector_, indent_ = 1;
};

}  // namespace

OpenClArguments opencl_arguments(const Program& p) {
  std::set<std::int64_t> outputs, inputs;
  std::map<std::int64_t, DType> slots;
  OpenClArguments a;
  for (const Instr& i : p.code) {
    if (i.code == Code::kStore) outputs.insert(i.imm);
    if (i.code == Code::kLoad) inputs.insert(i.imm);
    if (i.code != Code::kSlot) continue;
    if (i.imm == kFirstStep || i.imm == kLastStep)
      a.steps = true;
    else
      slots.emplace(i.imm, i.dtype);
  }
  a.outputs.assign(outputs.begin(), outputs.end());
  a.inputs.assign(inputs.begin(), inputs.end());
  for (const auto& [number, dtype] : slots) a.slots.push_back({number, dtype});
  return a;
}

std::string render_opencl_c(const Kernel& kernel, const OpenClTarget& target, const std::string& device) {
  Prelude prelude;
  std::string text;
  for (std::size_t i = 0; i < kernel.parts.size(); ++i) {
    if (!target.fp64)
      for (const Instr& instr : kernel.parts[i].program.code)
        if (instr.dtype == DType::kFloat64)
          throw Error(
              "compile",
              "float64 on the device " + device +
                  ", which has none (cl_khr_fp64); use float32, or another device (long sums of float32 are "
                  "taken in float64)",
              "", 0);
    text += "\n" + Renderer(kernel.parts[i].program, target, prelude).run(i);
  }
  return prelude.text() + text;
}

}  // namespace tinyphys
