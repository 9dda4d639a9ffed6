// The mathematical functions of C's library, which vector libraries and OpenCL C name alike.
#pragma once

#include "uop/ops.hpp"

namespace tinyphys {

// Null: none of them.
constexpr const char* library_name(Op op) {
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

}  // namespace tinyphys
