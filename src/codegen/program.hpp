// The linear program: what a renderer turns into text, in order, with loops but without any decision left.
//
// A register is the number of the instruction that made it. `lanes` is 1 for scalars; a scalar used by a
// vector instruction is broadcast. Bools are bits in registers and bytes in memory. Operations mean what evaluate.hpp says
// until lower_operations() has spelled out what a renderer has no word for.
#pragma once

#include <cstdint>
#include <vector>

#include "uop/ops.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

enum class Code : std::uint8_t {
  kConst,   // imm: bits as in CONST
  kSlot,    // imm: number of the PARAM; kFirstStep, kLastStep: the steps of a scan kernel
  kBegin,   // the units of this call: [begin, end)
  kFinish,  //
  kLoop,    // src: from, to. The counter, an int64; steps by `step`; `masked`: the last pass may be partial
  kEnd,     // src: the loop [, a bool: the pass is the last one]
  kLane,    // src: loop. counter + (0, 1, ...)
  kOp,      // op with arg `imm` over src
  kLoad,    // src: index [, gate]; imm: PARAM number
  kStore,   // src: index, value [, the value next to it: kPairs]; imm: output number
  kVar,     // a variable; src: its first value
  kGet,     // src: variable
  kSet,     // src: variable, value; under the mask of `loop`
  kAcross,  // src: vector; imm: Reduction over its lanes, by halves. Gone after lower_operations()
  kPart,    // src: vector; its lanes from number `imm` on
};

// How a vector load or store walks memory. Scalars are kContiguous. kPairs: one pair of elements a lane, as in arrays of complex
// numbers. The index is that of the first lane, as for kContiguous. A load takes one of each pair, a store writes both.
enum class Access : std::uint8_t { kContiguous, kPairs, kGather };

struct Instr {
  Code code;
  Op op = Op::CONST;
  DType dtype = DType::kVoid;
  int lanes = 1;
  std::vector<int> src{};
  std::int64_t imm = 0;
  Access access = Access::kContiguous;
  int loop = -1;  // whose mask guards this instruction; -1: none
  int step = 1;
  bool masked = false;
  bool odd = false;       // kLoad of kPairs: the second of each pair, whose index is odd
  bool streams = false;   // kStore: past the caches, to an aligned place
  std::int64_t size = 0;  // kLoad: elements of the array
  // DIV and MOD as machines have them: towards zero, and never by 0 or -1 for integers; the remainder has the sign of the
  // first operand. Index arithmetic is plain from the start.
  bool plain = false;
};

inline constexpr std::int64_t kFirstStep = -1, kLastStep = -2;

struct Program {
  std::vector<Instr> code;
};

}  // namespace tinyphys
