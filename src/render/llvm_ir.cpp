#include "render/llvm_ir.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "render/llvm_writer.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

// Renders one program; see LlvmWriter for types, operands and the arithmetic.
class ProgramRenderer {
 public:
  ProgramRenderer(const Program& p, const RenderTarget& t, std::set<std::string>& declarations)
      : program_(p), w_(p, t, declarations) {}

  std::string run(std::size_t part) {
    for (std::size_t i = 0; i < program_.code.size(); ++i) {
      instruction(static_cast<int>(i));
      w_.broadcast(static_cast<int>(i));
    }
    return "define void @kernel_" + std::to_string(part) +
           "(ptr %outputs, ptr %inputs, ptr %slots, i64 %begin, i64 %end, i64 %first, i64 %last) #0 "
           "{\nentry:\n" +
           entry_ + w_.body + "  ret void\n}\n";
  }

 private:
  const Instr& at(int r) const { return program_.code[static_cast<std::size_t>(r)]; }

  void instruction(int r) {
    const Instr& i = at(r);
    switch (i.code) {
      case Code::kConst: w_.define(r, LlvmWriter::literal(i.dtype, i.imm)); return;
      case Code::kSlot: slot(r, i); return;
      case Code::kBegin: w_.define(r, "%begin"); return;
      case Code::kFinish: w_.define(r, "%end"); return;
      case Code::kLoop: open(r, i); return;
      case Code::kEnd: close(i); return;
      case Code::kLane: lane(r, i); return;
      case Code::kOp: w_.define(r, w_.arithmetic(i)); return;
      case Code::kLoad: load(r, i); return;
      case Code::kStore: store(i); return;
      case Code::kVar: {
        const std::string type = LlvmWriter::type(i.dtype, i.lanes), name = "%v" + std::to_string(r);
        entry_ += "  " + name + " = alloca " + type + "\n";
        w_.line("store " + type + " " + w_.operand(i.src[0], i.lanes) + ", ptr " + name);
        return;
      }
      case Code::kGet:
        w_.define(
            r, w_.emit("load " + LlvmWriter::type(i.dtype, i.lanes) + ", ptr %v" + std::to_string(i.src[0])));
        return;
      case Code::kSet: assign(i); return;
      case Code::kAcross: throw Error("compile", "a reduction across lanes was not lowered", "", 0);
      case Code::kPart: w_.define(r, w_.part(i)); return;
    }
  }

  // A number given at each launch, as the bits of a double or an int64.
  void slot(int r, const Instr& i) {
    if (i.imm == kFirstStep || i.imm == kLastStep)
      return w_.define(r, i.imm == kFirstStep ? "%first" : "%last");
    const std::string p = w_.emit("getelementptr i64, ptr %slots, i64 " + std::to_string(i.imm));
    if (is_float(i.dtype)) {
      std::string v = w_.emit("load double, ptr " + p);
      if (i.dtype == DType::kFloat32) v = w_.emit("fptrunc double " + v + " to float");
      return w_.define(r, v);
    }
    std::string v = w_.emit("load i64, ptr " + p);
    if (i.dtype == DType::kInt32) v = w_.emit("trunc i64 " + v + " to i32");
    if (i.dtype == DType::kBool) v = w_.emit("icmp ne i64 " + v + ", 0");
    w_.define(r, v);
  }

  // Tested at the end of each pass, and once before the first.
  void open(int r, const Instr& i) {
    const std::string n = std::to_string(r), from = w_.operand(i.src[0], 1), to = w_.operand(i.src[1], 1);
    const std::string some = w_.emit("icmp slt i64 " + from + ", " + to);
    w_.line("br i1 " + some + ", label %body" + n + ", label %exit" + n);
    const std::string before = block_;
    w_.label("body" + n);
    block_ = "body" + n;
    w_.line("%i" + n + " = phi i64 [ " + from + ", %" + before + " ], [ %next" + n + ", %latch" + n + " ]");
    w_.define(r, "%i" + n);
    if (i.masked) {
      w_.declare("declare <" + std::to_string(i.step) + " x i1> @llvm.get.active.lane.mask.v" +
                 std::to_string(i.step) + "i1.i64(i64, i64)");
      w_.line("%mask" + n + " = call <" + std::to_string(i.step) + " x i1> @llvm.get.active.lane.mask.v" +
              std::to_string(i.step) + "i1.i64(i64 %i" + n + ", i64 " + to + ")");
    }
  }
  void close(const Instr& end) {
    const int r = end.src[0];
    const std::string n = std::to_string(r);
    w_.line("br label %latch" + n);
    w_.label("latch" + n);
    w_.line("%next" + n + " = add nsw i64 %i" + n + ", " + std::to_string(at(r).step));
    w_.line("%more" + n + " = icmp slt i64 %next" + n + ", " + w_.operand(at(r).src[1], 1));
    std::string again = "%more" + n;
    if (end.src.size() > 1) {
      w_.line("%again" + n + " = select i1 " + w_.operand(end.src[1], 1) + ", i1 false, i1 " + again);
      again = "%again" + n;
    }
    w_.line("br i1 " + again + ", label %body" + n + ", label %exit" + n);
    w_.label("exit" + n);
    block_ = "exit" + n;
  }

  void lane(int r, const Instr& i) {
    std::string v = "<";
    for (int k = 0; k < i.lanes; ++k) v += (k ? ", i64 " : "i64 ") + std::to_string(k);
    const std::string type = LlvmWriter::type(DType::kInt64, i.lanes);
    w_.define(r, w_.emit("add nsw " + type + " " + w_.splat(w_.operand(i.src[0], 1), DType::kInt64, i.lanes) +
                         ", " + v + ">"));
  }

  std::string array(const char* kind, std::int64_t number) {
    const std::string name = std::string("%") + kind + std::to_string(number);
    if (arrays_.insert(name).second) {
      const std::string table = kind[0] == 'i' ? "%inputs" : "%outputs";
      entry_ +=
          "  " + name + ".p = getelementptr ptr, ptr " + table + ", i64 " + std::to_string(number) + "\n";
      entry_ += "  " + name + " = load ptr, ptr " + name + ".p\n";
    }
    return name;
  }

  // The lanes that may touch memory; empty when all may.
  std::string mask(const Instr& i, int gate) {
    std::string m;
    if (i.loop >= 0 && at(i.loop).masked) m = "%mask" + std::to_string(i.loop);
    if (gate < 0) return m;
    const std::string g = w_.operand(gate, i.lanes);
    return m.empty() ? g : w_.emit("and " + LlvmWriter::type(DType::kBool, i.lanes) + " " + m + ", " + g);
  }

  // Of `lanes` elements from `from` on, those before `to`.
  std::string active(const std::string& from, const std::string& to, int lanes) {
    const std::string type = LlvmWriter::type(DType::kBool, lanes),
                      f = "@llvm.get.active.lane.mask.v" + std::to_string(lanes) + "i1.i64";
    w_.declare("declare " + type + " " + f + "(i64, i64)");
    return w_.emit("call " + type + " " + f + "(i64 " + from + ", i64 " + to + ")");
  }
  std::string plus(const std::string& x, int n) { return w_.emit("add i64 " + x + ", " + std::to_string(n)); }
  // The elements before `i` of the loop, and before its end, where each of its steps has a pair.
  std::string pairs_done(const Instr& i) { return w_.emit("shl i64 %i" + std::to_string(i.loop) + ", 1"); }
  std::string pairs_in_all(const Instr& i) {
    return w_.emit("shl i64 " + w_.operand(at(i.loop).src[1], 1) + ", 1");
  }

  // One of each pair: of two vectors that hold the pairs whole, which the load of the other ones shares.
  std::string load_pairs(const Instr& i, const std::string& from) {
    const std::string element = LlvmWriter::memory_type(i.dtype, 1),
                      type = LlvmWriter::memory_type(i.dtype, i.lanes),
                      align = std::to_string(item_size(i.dtype));
    std::string index = w_.operand(i.src[0], 1);
    if (i.odd) index = plus(index, -1);
    const auto place = [&](const std::string& base, const std::string& at) {
      return w_.emit("getelementptr " + element + ", ptr " + base + ", i64 " + at);
    };
    const std::string first = place(from, index), second = place(first, std::to_string(i.lanes));
    std::array<std::string, 2> half;
    if (mask(i, -1).empty()) {
      half = {w_.emit("load " + type + ", ptr " + first + ", align " + align),
              w_.emit("load " + type + ", ptr " + second + ", align " + align)};
    } else {
      const std::string done = pairs_done(i), end = pairs_in_all(i);
      const std::string f = "@llvm.masked.load.v" + std::to_string(i.lanes) + LlvmWriter::suffix(i.dtype) +
                            ".p0",
                        mask_type = LlvmWriter::type(DType::kBool, i.lanes);
      w_.declare("declare " + type + " " + f + "(ptr, i32, " + mask_type + ", " + type + ")");
      const auto some = [&](const std::string& p, const std::string& m) {
        return w_.emit("call " + type + " " + f + "(ptr " + p + ", i32 " + align + ", " + mask_type + " " +
                       m + ", " + type + " zeroinitializer)");
      };
      half[0] = some(first, active(done, end, i.lanes));
      half[1] = some(second, active(plus(done, i.lanes), end, i.lanes));
    }
    std::string which = "<";
    for (int l = 0; l < i.lanes; ++l)
      which += (l ? ", i32 " : "i32 ") + std::to_string(2 * l + (i.odd ? 1 : 0));
    return w_.emit("shufflevector " + type + " " + half[0] + ", " + type + " " + half[1] + ", <" +
                   std::to_string(i.lanes) + " x i32> " + which + ">");
  }

  static std::string all_lanes(int lanes) { return LlvmWriter::literal_vector(DType::kBool, 1, lanes); }

  void load(int r, const Instr& i) {
    const std::string from = array("in", i.imm), element = LlvmWriter::memory_type(i.dtype, 1),
                      type = LlvmWriter::memory_type(i.dtype, i.lanes);
    const std::string align = std::to_string(item_size(i.dtype));
    const int gate = i.src.size() > 1 ? i.src[1] : -1;
    std::string v;
    if (i.lanes == 1) {
      std::string index = w_.operand(i.src[0], 1);
      // A closed gate reads element 0 in place of one that may not exist.
      if (gate >= 0) index = w_.emit("select i1 " + w_.operand(gate, 1) + ", i64 " + index + ", i64 0");
      const std::string p = w_.emit("getelementptr " + element + ", ptr " + from + ", i64 " + index);
      v = w_.emit("load " + type + ", ptr " + p + ", align " + align);
    } else {
      const std::string m = mask(i, gate), mask_type = LlvmWriter::type(DType::kBool, i.lanes);
      const std::string suffix = "v" + std::to_string(i.lanes) + LlvmWriter::suffix(i.dtype);
      if (i.access == Access::kContiguous) {
        std::string index = w_.operand(i.src[0], 1);
        if (gate >= 0) {
          // No lane reads where the gate is closed, but hidden faults on pages that do not exist cost
          // microseconds each: a vector wholly outside the array is aimed at its start.
          const std::string shifted = w_.emit("add i64 " + index + ", " + std::to_string(i.lanes - 1));
          const std::string touches =
              w_.emit("icmp ult i64 " + shifted + ", " + std::to_string(i.size + i.lanes - 1));
          index = w_.emit("select i1 " + touches + ", i64 " + index + ", i64 0");
        }
        const std::string p = w_.emit("getelementptr " + element + ", ptr " + from + ", i64 " + index);
        if (m.empty()) {
          v = w_.emit("load " + type + ", ptr " + p + ", align " + align);
        } else {
          const std::string f = "@llvm.masked.load." + suffix + ".p0";
          w_.declare("declare " + type + " " + f + "(ptr, i32, " + mask_type + ", " + type + ")");
          v = w_.emit("call " + type + " " + f + "(ptr " + p + ", i32 " + align + ", " + mask_type + " " + m +
                      ", " + type + " zeroinitializer)");
        }
      } else if (i.access == Access::kPairs) {
        v = load_pairs(i, from);
      } else {
        const std::string n = std::to_string(i.lanes), pointers = "<" + n + " x ptr>";
        const std::string p =
            w_.emit("getelementptr " + element + ", ptr " + from + ", " +
                    LlvmWriter::type(DType::kInt64, i.lanes) + " " + w_.operand(i.src[0], i.lanes));
        const std::string f = "@llvm.masked.gather." + suffix + ".v" + n + "p0";
        w_.declare("declare " + type + " " + f + "(" + pointers + ", i32, " + mask_type + ", " + type + ")");
        v = w_.emit("call " + type + " " + f + "(" + pointers + " " + p + ", i32 " + align + ", " +
                    mask_type + " " + (m.empty() ? all_lanes(i.lanes) : m) + ", " + type +
                    " zeroinitializer)");
      }
    }
    if (i.dtype == DType::kBool)
      v = w_.emit("icmp ne " + type + " " + v + ", " + (i.lanes > 1 ? "zeroinitializer" : "0"));
    w_.define(r, v);
  }

  // Value k of a store, as it is in memory.
  std::string stored(const Instr& i, std::size_t k) {
    const std::string v = w_.operand(i.src[k], i.lanes);
    if (i.dtype != DType::kBool) return v;
    return w_.emit("zext " + LlvmWriter::type(i.dtype, i.lanes) + " " + v + " to " +
                   LlvmWriter::memory_type(i.dtype, i.lanes));
  }

  void store(const Instr& i) {
    const std::string to = array("out", i.imm), element = LlvmWriter::memory_type(i.dtype, 1);
    const std::string align = std::to_string(item_size(i.dtype));
    std::string v = stored(i, 1), type = LlvmWriter::memory_type(i.dtype, i.lanes);
    if (i.access != Access::kGather) {
      const std::string p =
          w_.emit("getelementptr " + element + ", ptr " + to + ", i64 " + w_.operand(i.src[0], 1));
      std::string m = i.lanes == 1 ? "" : mask(i, -1);
      int lanes = i.lanes;
      if (i.access == Access::kPairs) {
        lanes = 2 * i.lanes;
        std::string which = "<";
        for (int l = 0; l < lanes; ++l)
          which += (l ? ", i32 " : "i32 ") + std::to_string(l % 2 == 0 ? l / 2 : i.lanes + l / 2);
        v = w_.emit("shufflevector " + type + " " + v + ", " + type + " " + stored(i, 2) + ", <" +
                    std::to_string(lanes) + " x i32> " + which + ">");
        type = LlvmWriter::memory_type(i.dtype, lanes);
        if (!m.empty()) m = active(pairs_done(i), pairs_in_all(i), lanes);
      }
      if (i.streams && m.empty()) {
        constexpr std::size_t kMemoryAlign = 64;
        const std::size_t bytes =
            std::min(kMemoryAlign, item_size(i.dtype) * static_cast<std::size_t>(lanes));
        return w_.line("store " + type + " " + v + ", ptr " + p + ", align " + std::to_string(bytes) +
                       ", !nontemporal !{i32 1}");
      }
      if (m.empty()) return w_.line("store " + type + " " + v + ", ptr " + p + ", align " + align);
      const std::string f =
          "@llvm.masked.store.v" + std::to_string(lanes) + LlvmWriter::suffix(i.dtype) + ".p0";
      const std::string mask_type = LlvmWriter::type(DType::kBool, lanes);
      w_.declare("declare void " + f + "(" + type + ", ptr, i32, " + mask_type + ")");
      return w_.line("call void " + f + "(" + type + " " + v + ", ptr " + p + ", i32 " + align + ", " +
                     mask_type + " " + m + ")");
    }
    const std::string n = std::to_string(i.lanes), pointers = "<" + n + " x ptr>";
    const std::string p =
        w_.emit("getelementptr " + element + ", ptr " + to + ", " + LlvmWriter::type(DType::kInt64, i.lanes) +
                " " + w_.operand(i.src[0], i.lanes));
    const std::string f = "@llvm.masked.scatter.v" + n + LlvmWriter::suffix(i.dtype) + ".v" + n + "p0";
    const std::string mask_type = LlvmWriter::type(DType::kBool, i.lanes), m = mask(i, -1);
    w_.declare("declare void " + f + "(" + type + ", " + pointers + ", i32, " + mask_type + ")");
    w_.line("call void " + f + "(" + type + " " + v + ", " + pointers + " " + p + ", i32 " + align + ", " +
            mask_type + " " + (m.empty() ? all_lanes(i.lanes) : m) + ")");
  }

  void assign(const Instr& i) {
    const std::string type = LlvmWriter::type(i.dtype, i.lanes), name = "%v" + std::to_string(i.src[0]);
    std::string v = w_.operand(i.src[1], i.lanes);
    if (const std::string m = mask(i, -1); !m.empty() && i.lanes > 1) {
      const std::string old = w_.emit("load " + type + ", ptr " + name);
      v = w_.emit("select " + LlvmWriter::type(DType::kBool, i.lanes) + " " + m + ", " + type + " " + v +
                  ", " + type + " " + old);
    }
    w_.line("store " + type + " " + v + ", ptr " + name);
  }

  const Program& program_;
  LlvmWriter w_;
  std::string entry_, block_ = "entry";
  std::set<std::string> arrays_;
};

}  // namespace

std::string render_llvm_ir(const Kernel& kernel, const RenderTarget& target) {
  std::set<std::string> declarations;
  std::string text;
  for (std::size_t i = 0; i < kernel.parts.size(); ++i)
    text += ProgramRenderer(kernel.parts[i].program, target, declarations).run(i) + "\n";
  for (const std::string& d : declarations) text += d + "\n";
  // Aligned spills: a vector that crosses a cache line halves the speed of code around library calls, in three
  // processes of four.
  const std::string bytes = std::to_string(target.vector_bytes),
                    bits = std::to_string(target.vector_bytes * 8);
  text +=
      "\nattributes #0 = { nounwind alignstack=" + bytes + " \"prefer-vector-width\"=\"" + bits + "\" }\n";
  return text;
}

}  // namespace tinyphys
