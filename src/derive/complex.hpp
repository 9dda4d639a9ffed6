// Complex numbers as pairs of real ones: what each op means for them, and the graph of real ops that stands for a
// graph with complex nodes. Kernels, the evaluator and the recognisers see that graph alone.
#pragma once

#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// |re + i im| without overflow or underflow on the way; of an infinite part inf, at 0 with the derivative 0.
UOp complex_abs(const UOp& re, const UOp& im);

// Real values, and complex ones as float [..., 2], (re, im), made of real ops alone where they depend on a symbol; other complex
// values in them are looked at by AS_REAL. Bodies of loops become real, too. What holds no complex node is not walked.
std::vector<UOp> lower_complex(std::span<const UOp> values);
UOp lower_complex(const UOp& value);
// A SCAN or its vjp: its carries, xs, captured values and outputs that are complex become arrays, and keep their numbers.
UOp lower_complex_loop(const UOp& loop);
// A closed program. Its complex PARAMs become real ones, of the same bytes.
UOp lower_complex_program(const UOp& lambda);

}  // namespace tinyphys
