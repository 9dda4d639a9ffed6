// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string_view>

namespace tinyphys {

enum class DType : std::uint8_t { kVoid, kBool, kInt32, kInt64, kFloat32, kFloat64 };

constexpr std::string_view name(DType d) {
  switch (d) {
    case DType::kVoid: return "void";
    case DType::kBool: return "bool";
    case DType::kInt32: return "int32";
    case DType::kInt64: return "int64";
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
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
    case DType::kFloat64: return 8;
  }
  return 0;
}

constexpr bool is_float(DType d) { return d == DType::kFloat32 || d == DType::kFloat64; }
constexpr bool is_integer(DType d) { return d == DType::kInt32 || d == DType::kInt64; }

// Needs <ostream>.
template <class Traits>
std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& out, DType d) {
  return out << name(d);
}

}  // namespace tinyphys
