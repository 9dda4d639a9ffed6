// CAT of many parts, where a part may be a number, and SLICE: bytes that only move. A kernel asks every part of a CAT for
// each element; the fusion says when that is too dear.
#include <cstring>

#include "schedule/call.hpp"

namespace tinyphys {
namespace {

void write_number(DType d, std::int64_t number, char* to) {
  auto put = [&](auto v) { std::memcpy(to, &v, sizeof v); };
  switch (d) {
    case DType::kFloat64: return put(number);
    case DType::kFloat32: return put(static_cast<float>(from_bits(number)));
    case DType::kInt64: return put(number);
    case DType::kInt32: return put(static_cast<std::int32_t>(number));
    default: return put(static_cast<unsigned char>(number != 0));
  }
}

// Row after row of every part, where a row is what lies together in both.
void copy_parts(const CallArguments& call) {
  const Node* n = call.node;
  const HostWrite out(call.output);
  auto* to = out.as<char>();
  std::int64_t rows = 1;
  for (std::int64_t d = 0; d < n->arg(0); ++d) rows *= n->shape()[static_cast<std::size_t>(d)];
  const auto row_bytes = [&](const Node* x) {
    return static_cast<std::size_t>(x->size() / rows) * item_size(n->dtype);
  };
  std::size_t offset = 0;
  for (std::size_t k = 0; k < call.inputs.size(); ++k) {
    const std::size_t bytes = row_bytes(n->src(k));
    if (!call.inputs[k]) {
      write_number(n->dtype, call.numbers[k], to + offset);
    } else if (bytes != 0) {
      const HostRead from(*call.inputs[k]);
      for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r)
        std::memcpy(to + r * row_bytes(n) + offset, from.as<char>() + r * bytes, bytes);
    }
    offset += bytes;
  }
}

// Element by element along the last axis, or as one piece where the step there is 1.
void copy_slice(const CallArguments& call) {
  const Node* n = call.node;
  const HostRead in(*call.inputs[0]);
  const HostWrite out(call.output);
  const auto* from = in.as<char>();
  auto* to = out.as<char>();
  const std::size_t rank = n->n_dim, item = item_size(n->dtype);
  const auto extent = n->src(0)->shape(), shape = n->shape();
  std::vector<std::int64_t> stride(
      rank);  // of the source, in bytes, from one element of the slice to the next
  auto bytes = static_cast<std::int64_t>(item);
  for (std::size_t d = rank; d-- > 0; bytes *= extent[d]) {
    from += n->arg(3 * d) * bytes;
    stride[d] = n->arg(3 * d + 2) * bytes;
  }
  const std::int64_t last = rank == 0 ? 1 : shape[rank - 1];
  const bool together = rank == 0 || n->arg(3 * rank - 1) == 1;
  std::vector<std::int64_t> at(rank, 0);
  for (std::int64_t row = n->size() / last; row-- > 0;) {
    const char* p = from;
    for (std::size_t d = 0; d + 1 < rank; ++d) p += at[d] * stride[d];
    if (together) {
      std::memcpy(to, p, static_cast<std::size_t>(last) * item);
      to += static_cast<std::size_t>(last) * item;
    } else {
      for (std::int64_t k = 0; k < last; ++k, to += item) std::memcpy(to, p + k * stride[rank - 1], item);
    }
    for (std::size_t d = rank < 1 ? 0 : rank - 1; d-- > 0;) {
      if (++at[d] < shape[d]) break;
      at[d] = 0;
    }
  }
}

[[maybe_unused]] const bool added = add_call({"copy parts", Op::CAT, nullptr, copy_parts}) &&
                                    add_call({"copy slice", Op::SLICE, nullptr, copy_slice});

}  // namespace
}  // namespace tinyphys
