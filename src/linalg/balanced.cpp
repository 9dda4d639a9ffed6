#include "linalg/balanced.hpp"

#include <bitset>
#include <numeric>

namespace tinyphys {

namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

}  // namespace

std::vector<double> balance(const AffineMap& map, std::int64_t steps) {
  const long d = map.d;
  const DDMatrix& b = map.b;
  std::vector<double> scale(u(d), 0.0);
  std::vector<std::bitset<AffinePower::kMaxOrder>> follows(u(d));
  for (long i = 0; i < d; ++i)
    for (long j = 0; j < d; ++j) follows[u(i)][u(j)] = b.at(i, j).hi != 0.0;
  for (long k = 0; k < d; ++k)
    for (long i = 0; i < d; ++i)
      if (follows[u(i)][u(k)]) follows[u(i)] |= follows[u(k)];
  const auto together = [&](long i, long j) {
    return map.mixes_rows || i == j || (follows[u(i)][u(j)] && follows[u(j)][u(i)]);
  };
  const auto coupling = [&](long i, long j) {
    return Log2::of(std::fabs(b.at(i, j).hi)) * Log2{scale[u(i)] - scale[u(j)]};
  };
  for (int sweep = 0; sweep < 10; ++sweep) {
    for (long i = 0; i < d; ++i) {
      Log2 row, column;
      for (long j = 0; j < d; ++j) {
        if (j == i || !together(i, j)) continue;
        row = row + coupling(i, j);
        column = column + coupling(j, i);
      }
      if (std::isfinite(row.log2) && std::isfinite(column.log2))
        scale[u(i)] += std::round((column.log2 - row.log2) / 2);
    }
  }
  // Those that are followed come first: they follow fewer.
  std::vector<long> order(u(d));
  std::iota(order.begin(), order.end(), 0L);
  std::stable_sort(order.begin(), order.end(),
                   [&](long i, long j) { return follows[u(i)].count() < follows[u(j)].count(); });
  std::vector<char> done(u(d), 0);
  const double most = -std::log2(static_cast<double>(steps));
  for (const long first : order) {
    if (done[u(first)]) continue;
    double excess = 0.0;
    for (long i = 0; i < d; ++i)
      for (long j = 0; j < d && together(first, i); ++j)
        if (!together(i, j)) excess = std::max(excess, coupling(i, j).log2 - most);
    for (long i = 0; i < d; ++i)
      if (together(first, i)) {
        scale[u(i)] -= std::ceil(excess);
        done[u(i)] = 1;
      }
  }
  return scale;
}

}  // namespace tinyphys
