// The op table: one line per op, for every stage. Traits are looked up by the enum at compile time.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tinyphys {

enum class OpClass : std::uint8_t {
  kLeaf,      // no sources
  kUnary,     // elementwise, result dtype = source dtype unless the op says otherwise
  kBinary,    // elementwise, both sources of one shape and dtype
  kCompare,   // elementwise, result bool
  kTernary,   // elementwise
  kMovement,  // the same elements, other places
  kReduce,
  kWhole,    // primitives that stay whole: matmul, scan, evolve, ...
  kControl,  // lambda, get, sink
  kKernel    // appear only after lowering
};

// clang-format off
// X(name, class, arity (-1: variadic), commutative)
#define TINYPHYS_OPS(X)                                                                                 \
  X(CONST, kLeaf, 0, false)     /* arg: dtype, bits of the value as double or int64; shape [] */        \
  X(BUFFER, kLeaf, 0, false)    /* arg: unique id, dtype, dims...; the data is in storage */            \
  X(SYM, kLeaf, 0, false)       /* arg: unique id, dtype, dims...; a symbol of an open trace */         \
  X(PARAM, kLeaf, 0, false)     /* arg: index, dtype, kind (0 tensor, 1 scalar slot), dims... */        \
  X(IOTA, kLeaf, 0, false)      /* arg: n; int64 0..n-1 */                                              \
  X(NEG, kUnary, 1, false)                                                                              \
  X(ABS, kUnary, 1, false)                                                                              \
  X(SIGN, kUnary, 1, false)                                                                             \
  X(SQRT, kUnary, 1, false)                                                                             \
  X(EXP, kUnary, 1, false)                                                                              \
  X(EXPM1, kUnary, 1, false)                                                                            \
  X(LOG, kUnary, 1, false)                                                                              \
  X(LOG1P, kUnary, 1, false)                                                                            \
  X(SIN, kUnary, 1, false)                                                                              \
  X(COS, kUnary, 1, false)                                                                              \
  X(TAN, kUnary, 1, false)                                                                              \
  X(ASIN, kUnary, 1, false)                                                                             \
  X(ACOS, kUnary, 1, false)                                                                             \
  X(ATAN, kUnary, 1, false)                                                                             \
  X(SINH, kUnary, 1, false)                                                                             \
  X(COSH, kUnary, 1, false)                                                                             \
  X(TANH, kUnary, 1, false)                                                                             \
  X(ERF, kUnary, 1, false)                                                                              \
  X(FLOOR, kUnary, 1, false)                                                                            \
  X(CEIL, kUnary, 1, false)                                                                             \
  X(NOT, kUnary, 1, false)  /* bool */                                                                  \
  X(CONJ, kUnary, 1, false) /* of complex numbers */                                                    \
  X(COPY, kUnary, 1, false) /* the same value; arg: the device it is on from here, Node::device() */ \
  X(CAST, kUnary, 1, false) /* arg: dtype */                                                            \
  X(POWI, kUnary, 1, false) /* arg: integer exponent, |k| <= 64 */                                      \
  X(ADD, kBinary, 2, true)                                                                              \
  X(SUB, kBinary, 2, false)                                                                             \
  X(MUL, kBinary, 2, true)                                                                              \
  X(DIV, kBinary, 2, false) /* floats: true division; integers: towards zero, see evaluate.hpp */       \
  X(MOD, kBinary, 2, false) /* remainder with the sign of the divisor, as NumPy */                      \
  X(POW, kBinary, 2, false)                                                                             \
  X(ATAN2, kBinary, 2, false)                                                                           \
  X(MAX, kBinary, 2, true) /* NaN if either is NaN, as NumPy's maximum */                               \
  X(MIN, kBinary, 2, true)                                                                              \
  X(AND, kBinary, 2, true) /* bool */                                                                   \
  X(OR, kBinary, 2, true)  /* bool */                                                                   \
  X(PHILOX, kBinary, 2, false) /* int64 key, int64 counter; arg: philox::Draw as a number */            \
  X(LT, kCompare, 2, false)                                                                             \
  X(LE, kCompare, 2, false)                                                                             \
  X(EQ, kCompare, 2, true)                                                                              \
  X(NE, kCompare, 2, true)                                                                              \
  X(WHERE, kTernary, 3, false)      /* condition, then, else */                                         \
  X(FMA, kTernary, 3, false)        /* a * b + c, one rounding */                                       \
  X(RESHAPE, kMovement, 1, false)   /* arg: dims... */                                                  \
  X(PERMUTE, kMovement, 1, false)   /* arg: axes...; out dim i = in dim axes[i] */                      \
  X(EXPAND, kMovement, 1, false)    /* arg: dims...; source has equal rank with dims 1 or equal */      \
  X(SLICE, kMovement, 1, false)     /* arg: (start, stop, step) per axis; step may be negative */       \
  X(PAD, kMovement, 1, false)       /* arg: fill bits (as CONST), then (before, after) per axis */      \
  X(ROLL, kMovement, 1, false)      /* arg: axis, shift in [0, n): out[i] = in[(i - shift) mod n] */    \
  X(CAT, kMovement, -1, false)      /* arg: axis */                                                     \
  X(REDUCE, kReduce, 1, false)      /* arg: kind (Reduction), axes ascending...; the axes are dropped */ \
  X(CUMSUM, kWhole, 1, false)       /* arg: axis */                                                     \
  X(MATMUL, kWhole, 2, false)       /* [..., m, k] x [..., k, n], equal leading dims */                 \
  X(AS_REAL, kWhole, 1, false)      /* complex [...] as float [..., 2], (re, im): the same bytes */     \
  X(AS_COMPLEX, kWhole, 1, false)   /* the other way round */                                           \
  X(FFT, kWhole, 1, false)          /* of pairs (re, im), not scaled; arg: sign of the exponent, axes ascending... */ \
  X(RFFT, kWhole, 1, false)         /* real to half of the pairs; arg: sign of the exponent, -1, axes..., the halved one last */ \
  X(IRFFT, kWhole, 1, false)        /* half of the pairs to real; arg: length, axes..., the halved one last */ \
  X(GATHER, kWhole, 2, false)       /* x, integer index; arg: axis; take along axis as numpy.take */    \
  X(SCATTER_ADD, kWhole, 3, false)  /* base, index, values; arg: axis; the transpose of GATHER */       \
  X(SCAN, kWhole, -1, false)        /* see scan_layout.hpp */                                           \
  X(SCAN_VJP, kWhole, -1, false)    /* see scan_layout.hpp */                                           \
  X(EVOLVE, kWhole, -1, false)      /* see scan_layout.hpp */                                           \
  X(EVOLVE_VJP, kWhole, -1, false)  /* see scan_layout.hpp */                                           \
  X(PROPAGATE, kWhole, -1, false)   /* see scan_layout.hpp */                                           \
  X(PROPAGATE_VJP, kWhole, -1, false) /* see scan_layout.hpp */                                         \
  X(CHECK, kWhole, 2, false)        /* value, scalar; arg: CheckKind, ...; the value, or tp::Error, see CheckKind */ \
  X(LAMBDA, kControl, -1, false)    /* src: outputs, closed over PARAMs; arg: number of params */       \
  X(GET, kControl, 1, false)        /* arg: which output of a node with several */                      \
  X(SINK, kControl, -1, false)      /* src: roots of one realize */                                     \
  X(RANGE, kKernel, 0, false)       /* arg: id, extent; an int64 loop variable */                       \
  X(LOAD, kKernel, -1, false)       /* PARAM, flat int64 index [, gate: no access where false] */       \
  X(STORE, kKernel, 2, false)       /* flat int64 index, value; arg: output number */                   \
  X(ACCUMULATE, kKernel, -1, false) /* value, reduce ranges...; arg: kind (Reduction) */                \
  X(STATE, kKernel, 0, false)       /* arg: loop id, number (-1: the step), dtype; carried by a LOOP */ \
  X(LOOP, kKernel, -1, false)       /* first, last, initial..., next... [, until], STORE...; arg: loop id, n states, until */
// clang-format on

enum class Op : std::uint8_t {
#define TINYPHYS_ENUM(name, cls, arity, comm) name,
  TINYPHYS_OPS(TINYPHYS_ENUM)
#undef TINYPHYS_ENUM
};

struct OpTraits {
  std::string_view name;
  OpClass cls;
  int arity;
  bool commutative;
};

inline constexpr auto kOpTable = std::to_array<OpTraits>({
#define TINYPHYS_ROW(name, cls, arity, comm) {#name, OpClass::cls, arity, comm},
    TINYPHYS_OPS(TINYPHYS_ROW)
#undef TINYPHYS_ROW
});
#undef TINYPHYS_OPS

inline constexpr int kOpCount = static_cast<int>(kOpTable.size());

constexpr const OpTraits& traits(Op op) { return kOpTable[static_cast<std::size_t>(op)]; }
constexpr std::string_view name(Op op) { return traits(op).name; }
constexpr bool is_elementwise(Op op) {
  const OpClass c = traits(op).cls;
  return c == OpClass::kUnary || c == OpClass::kBinary || c == OpClass::kCompare || c == OpClass::kTernary;
}
// A loop as it is recorded, or the gradient through one.
constexpr bool is_loop(Op op) {
  return op == Op::SCAN || op == Op::EVOLVE || op == Op::SCAN_VJP || op == Op::EVOLVE_VJP;
}
// Elementwise operations that mean something for complex numbers.
constexpr bool takes_complex(Op op) {
  switch (op) {
    case Op::NEG:
    case Op::SQRT:
    case Op::EXP:
    case Op::LOG:
    case Op::SIN:
    case Op::COS:
    case Op::TAN:
    case Op::SINH:
    case Op::COSH:
    case Op::TANH:
    case Op::ADD:
    case Op::SUB:
    case Op::MUL:
    case Op::DIV:
    case Op::EQ:
    case Op::NE: return true;
    default: return false;
  }
}
constexpr bool is_movement(Op op) { return traits(op).cls == OpClass::kMovement; }

enum class Reduction : std::int64_t { kSum, kProd, kMax, kMin };
// A sum of so few terms is taken in its own dtype, by straight-line code from left to right. A longer sum of float32
// (REDUCE, CUMSUM, MATMUL) is taken in float64 and rounded once: in float32, 10^7 terms of 0.1 lose 0.2 %. Straight-line
// code adds more terms by halves instead, which loses log2(n) roundings at most.
inline constexpr std::int64_t kSequentialSum = 8;

// FFT, RFFT, IRFFT: discrete Fourier transforms, sums over x[j] exp(sign 2 pi i j k / n) that are not scaled, of complex
// numbers in the form of AS_REAL: pairs (re, im) along a trailing axis of 2, which no axis of a transform is. RFFT goes
// forward and keeps k = 0 .. n / 2 of its last axis; IRFFT goes back: over its other axes first, then as if what is
// missing were the complex conjugate, and the imaginary parts that cannot be, at k = 0 and n / 2, are not read.
inline constexpr std::int64_t kForwardFft = -1, kInverseFft = 1;
constexpr bool is_fft(Op op) { return op == Op::FFT || op == Op::RFFT || op == Op::IRFFT; }
// The axes of a transform, after one arg that says something else.
inline constexpr std::size_t kFirstFftAxis = 1;

// What a CHECK asks of its scalar, and has to say when it fails.
enum class CheckKind : std::int64_t {
  kMidpointConverged,  // bool: true
  kIndexInRange,       // int64: in [-n, n); further args: n, the Op that takes the index
  kStepFinite,         // bool: true
  kMassUsable,         // bool: true
  kMetricUsable,       // bool: true
  kProjected,          // int64: passes always; how many Newton iterations there were, for explain()
  kWarpDefined,  // int64: below 0, else the step at which it failed; further args: WarpFailure; of an ensemble the number
                 // of members n, and then it is step n + member
  kWarpForward,  // bool: true; the time that was asked for is not before the state's
  kWarpEnded,    // bool: true; the time that was asked for is reached
  kStaysInRange,  // int64: 0, or i n_carry + c where carry c has left its range by step i, from 1; further arg: n_carry
  kStartRecovered,  // bool: true
  kHasNorm,         // bool: true; a wave is neither 0 everywhere nor infinite somewhere
  kDecayResolved,   // bool: true; imaginary time left enough of a wave
  kSeriesHolds,     // bool: true; a Chebyshev series kept within its bounds
  kStartMissed,     // float64, for explain(): how far a start was missed, relative; any number passes
  kAdjointGrew,     // float64, for explain(): by what factor a cotangent grew; any number passes
  kProjectionRests  // bool: true; the iterations of a symmetric projection came to rest
};
enum class WarpFailure : std::int64_t { kPotential, kKinetic, kStep, kMidpoint };

constexpr std::string_view name(Reduction r) {
  switch (r) {
    case Reduction::kSum: return "sum";
    case Reduction::kProd: return "prod";
    case Reduction::kMax: return "max";
    case Reduction::kMin: return "min";
  }
  return "?";
}

}  // namespace tinyphys
