#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "propagate/propagator.hpp"

namespace tinyphys {
Value<double> value_of(const Node* n, const HostValue& a) {
  Value<double> v{n->dtype, shape_of(n), {}, {}};
  const auto size = static_cast<std::size_t>(n->size());
  if (!a.data) {  // a number
    if (is_float(n->dtype))
      v.real.assign(size, from_bits(a.scalar));
    else
      v.integer.assign(size, a.scalar);
    return v;
  }
  if (n->dtype == DType::kFloat64) {
    const auto* x = static_cast<const double*>(a.data);
    v.real.assign(x, x + size);
    return v;
  }
  for (std::size_t i = 0; i < size; ++i) {
    switch (n->dtype) {
      case DType::kFloat32:
        v.real.push_back(static_cast<double>(static_cast<const float*>(a.data)[i]));
        break;
      case DType::kInt64: v.integer.push_back(static_cast<const std::int64_t*>(a.data)[i]); break;
      case DType::kInt32: v.integer.push_back(static_cast<const std::int32_t*>(a.data)[i]); break;
      default: v.integer.push_back(static_cast<const unsigned char*>(a.data)[i]); break;
    }
  }
  return v;
}

std::int64_t JumpSystem::size() const { return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}); }

AffineForm JumpSystem::columns(std::span<const std::int64_t> wanted) const {
  return extract_affine(
      map.get(), groups,
      [&](std::int64_t i, const Node* n) {
        const std::size_t k = static_cast<std::size_t>(i) - sizes.size();
        HostValue a{captured[k].data(), captured[k].size(), 0};
        if (is_number[k]) {
          std::memcpy(&a.scalar, a.data, sizeof a.scalar);
          a.data = nullptr;
        }
        return value_of(n, a);
      },
      wanted);
}

const AffineForm& JumpSystem::form() const {
  if (!form_) form_ = std::make_unique<AffineForm>(columns({}));
  return *form_;
}

std::vector<double> JumpSystem::reach(std::span<const double> state) const {
  const AffineForm& f = form();
  std::vector<std::int64_t> part_of;
  for (std::size_t s = 0; s < sizes.size(); ++s)
    part_of.insert(part_of.end(), static_cast<std::size_t>(sizes[s]), static_cast<std::int64_t>(s));
  std::vector<double> out(sizes.size(), 0.0);
  for (std::size_t r = 0; r + 1 < f.row_start.size(); ++r) {
    double sum = std::fabs(f.offset[r].hi);
    for (auto k = static_cast<std::size_t>(f.row_start[r]); k < static_cast<std::size_t>(f.row_start[r + 1]);
         ++k)
      sum += std::fabs(f.value[k].hi) *
             state[static_cast<std::size_t>(part_of[static_cast<std::size_t>(f.col[k])])];
    double& most = out[static_cast<std::size_t>(part_of[r])];
    most = std::max(most, sum);
  }
  return out;
}

double JumpSystem::kept_doubles() const {
  double n = form_ ? 4 * static_cast<double>(form_->value.size()) : 0;
  for (const auto& c : captured) n += static_cast<double>(c.size()) / 8;
  return n;
}

}  // namespace tinyphys
