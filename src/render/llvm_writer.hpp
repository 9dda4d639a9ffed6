// The parts of LLVM IR text: types, literals, operands, and the word for every operation.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "codegen/program.hpp"
#include "render/llvm_ir.hpp"

namespace tinyphys {

class LlvmWriter {
 public:
  LlvmWriter(const Program& p, const RenderTarget& t, std::set<std::string>& declarations);

  std::string body;

  static std::string type(DType d, int lanes);         // in registers
  static std::string memory_type(DType d, int lanes);  // bools are bytes
  static std::string suffix(DType d);                  // of intrinsics over memory: "f64", "i8"
  static std::string literal(DType d, std::int64_t bits);
  static std::string literal_vector(DType d, std::int64_t bits, int lanes);

  // A new temporary that holds `expression`.
  std::string emit(const std::string& expression);
  void line(const std::string& text) { body += "  " + text + "\n"; }
  void label(const std::string& name) { body += name + ":\n"; }
  void declare(const std::string& text) { declarations_.insert(text); }

  void define(int r, const std::string& value) { names_[static_cast<std::size_t>(r)] = value; }
  // Register r as a value of this many lanes.
  std::string operand(int r, int lanes) const;
  // Right after the definition of r: the vectors of it that are needed later, so that they dominate every
  // use.
  void broadcast(int r);
  std::string splat(const std::string& scalar, DType d, int lanes);

  std::string arithmetic(const Instr& i);
  std::string part(const Instr& i);

 private:
  struct Args {
    DType dtype;  // of the sources
    int lanes;
    std::string type;               // of the sources
    std::vector<std::string> name;  // values
  };
  std::string intrinsic(const char* name, DType d, int lanes, const std::vector<std::string>& args);
  std::string library(const char* name, DType d, int lanes, const std::vector<std::string>& args);
  std::string library_chunk(const char* name, DType d, int lanes, const std::vector<std::string>& args);
  std::string binary(Op op, DType d, int lanes, const std::string& a, const std::string& b);
  std::string compare(Op op, DType d, int lanes, const std::string& a, const std::string& b);
  std::string cast(const Args& a, DType to);
  std::string choose(const std::string& condition, const std::string& t, const std::string& a,
                     const std::string& b, int lanes);
  std::string philox(const Args& a, std::int64_t draw);
  std::string number(DType d, double v, int lanes) const;

  const Program& program_;
  const RenderTarget& target_;
  std::set<std::string>& declarations_;
  std::vector<std::string> names_;
  std::vector<std::set<int>> wanted_;  // per register: lanes it is broadcast to
  int next_ = 0;
};

}  // namespace tinyphys
