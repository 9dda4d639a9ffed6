// MATMUL of doubles, [batch..., m, k] x [batch..., k, n], by BLAS.
#include <algorithm>

#include "linalg/dense.hpp"
#include "schedule/call.hpp"
#include "support/thread_pool.hpp"

namespace tinyphys {
namespace {

constexpr std::int64_t kSmall = 4096;  // multiply-adds that a kernel does itself

bool takes(const Node* n, bool fuse) {
  return n->dtype == DType::kFloat64 && (!fuse || n->size() * n->src(0)->shape().back() > kSmall);
}

void run(const CallArguments& call) {
  const Node* n = call.node;
  const auto shape = n->shape();
  const std::size_t r = shape.size();
  const std::int64_t rows = shape[r - 2], cols = shape[r - 1], inner = n->src(0)->shape().back();
  std::int64_t batch = 1;
  for (std::size_t d = 0; d + 2 < r; ++d) batch *= shape[d];
  const HostRead left(*call.inputs[0]), right(*call.inputs[1]);
  const HostWrite out(call.output);
  const auto *a = left.as<double>(), *b = right.as<double>();
  auto* c = out.as<double>();
  const ParallelFor pool = [](long count, const std::function<void(long)>& f) {
    thread_pool().parallel_for(count, [&](long k) { f(k); });
  };
  if (inner == 0) {
    std::fill_n(c, batch * rows * cols, 0.0);
    return;
  }
  for (std::int64_t k = 0; k < batch; ++k)
    gemm(rows, cols, inner, a + k * rows * inner, inner, false, b + k * inner * cols, cols, false,
         c + k * rows * cols, cols, false, pool);
}

[[maybe_unused]] const bool added = add_call({"gemm", Op::MATMUL, takes, run});

}  // namespace
}  // namespace tinyphys
