#include <numeric>

#include "propagate/propagator.hpp"

namespace tinyphys {
namespace {

Value<DD> captured_value(const Node* n, const std::vector<char>& bytes, bool is_number) {
  Value<DD> v;
  v.dtype = n->dtype;
  v.shape = shape_of(n);
  const auto size = static_cast<std::size_t>(n->size());
  if (is_number) {
    std::int64_t number;
    std::copy_n(bytes.data(), sizeof number, reinterpret_cast<char*>(&number));
    if (is_float(n->dtype))
      v.real.assign(size, DD(from_bits(number)));
    else
      v.integer.assign(size, number);
    return v;
  }
  const void* data = bytes.data();
  for (std::size_t i = 0; i < size; ++i) {
    switch (n->dtype) {
      case DType::kFloat64: v.real.push_back(DD(static_cast<const double*>(data)[i])); break;
      case DType::kFloat32:
        v.real.push_back(DD(static_cast<double>(static_cast<const float*>(data)[i])));
        break;
      case DType::kInt64: v.integer.push_back(static_cast<const std::int64_t*>(data)[i]); break;
      case DType::kInt32: v.integer.push_back(static_cast<const std::int32_t*>(data)[i]); break;
      default: v.integer.push_back(static_cast<const unsigned char*>(data)[i]); break;
    }
  }
  return v;
}

}  // namespace

std::int64_t JumpSystem::size() const { return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}); }

AffineForm JumpSystem::columns(std::span<const std::int64_t> wanted) const {
  return extract_affine(
      map.get(), groups,
      [&](std::int64_t i, const Node* n) {
        const std::size_t k = static_cast<std::size_t>(i) - sizes.size();
        return captured_value(n, captured[k], is_number[k] != 0);
      },
      wanted);
}

const AffineForm& JumpSystem::form() const {
  if (!form_) form_ = std::make_unique<AffineForm>(columns({}));
  return *form_;
}

double JumpSystem::kept_doubles() const {
  double n = form_ ? 4 * static_cast<double>(form_->value.size()) : 0;
  for (const auto& c : captured) n += static_cast<double>(c.size()) / 8;
  return n;
}

}  // namespace tinyphys
