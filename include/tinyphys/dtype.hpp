// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string_view>

namespace tinyphys {

enum class DType : std::uint8_t { kVoid, kBool, kInt32, kInt64, kFloat32, kFloat64, kComplex64, kComplex128 };

constexpr std::string_view name(DType d) {
  switch (d) {
    case DType::kVoid: return "void";
    case DType::kBool: return "bool";
    case DType::kInt32: return "int32";
    case DType::kInt64: return "int64";
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kComplex64: return "complex64";
    case DType::kComplex128: return "complex128";
  }
  return "?";
}

// Bytes of one element; 0 for void.
constexpr std::size_t item_size(DType d) {
  switch (d) {
    case DType::kVoid: return 0;
    case DType::kBool: return 1;
    case DType::kInt32:
    case DType::kFloat32: return 4;
    case DType::kInt64:
    case DType::kFloat64:
    case DType::kComplex64: return 8;
    case DType::kComplex128: return 16;
  }
  return 0;
}

constexpr bool is_float(DType d) { return d == DType::kFloat32 || d == DType::kFloat64; }
// Pairs (re, im) of float32 or float64, as std::complex lies in memory.
constexpr bool is_complex(DType d) { return d == DType::kComplex64 || d == DType::kComplex128; }
constexpr bool is_integer(DType d) { return d == DType::kInt32 || d == DType::kInt64; }

// Of the parts of a complex number; any other dtype is its own.
constexpr DType real_dtype(DType d) {
  return d == DType::kComplex64 ? DType::kFloat32 : d == DType::kComplex128 ? DType::kFloat64 : d;
}
// Of the complex numbers with these parts.
constexpr DType complex_dtype(DType real) {
  return real == DType::kFloat32 || real == DType::kComplex64 ? DType::kComplex64 : DType::kComplex128;
}

// Needs <ostream>.
template <class Traits>
std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& out, DType d) {
  return out << name(d);
}

}  // namespace tinyphys
