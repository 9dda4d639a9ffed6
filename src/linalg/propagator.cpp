#include "linalg/propagator.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <deque>
#include <limits>
#include <mutex>
#include <numeric>
#include <type_traits>
#include <utility>

#include "linalg/eigen_refine.hpp"
#include "linalg/mode_moments.hpp"
#include "linalg/mode_powers.hpp"
#include "support/cost_model.hpp"

namespace tinyphys {

namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

// Values up to this sum in the normal pass; beyond it they carry an exponent of their own.
constexpr int kHugeExponent = 900;
constexpr std::int64_t kExponentLimit = std::int64_t{1} << 42;
constexpr long kSmallComponent = 64;
constexpr long kMemberBlock = 1024;
constexpr std::size_t kKeptJumps = 8, kKeptCoefficients = std::size_t{1} << 20;

std::string number(double x) {
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

// A canonical copy: columns ascending, duplicates added, zeros dropped.
struct Rows {
  std::vector<long> start;
  std::vector<int> col;
  std::vector<DD> value;

  DD at(long i, long j) const {
    const auto first = col.begin() + start[u(i)], last = col.begin() + start[u(i) + 1];
    const auto it = std::lower_bound(first, last, static_cast<int>(j));
    return it != last && *it == j ? value[static_cast<std::size_t>(it - col.begin())] : DD(0.0);
  }
};

std::string canonical_rows(const SparseDD& m, const char* name, Rows& rows) {
  const std::string who = name;
  if (m.n < 0 || m.row_start.size() != u(m.n) + 1 || m.row_start.front() != 0 ||
      m.col.size() != m.value.size() || m.row_start.back() != static_cast<long>(m.col.size())) {
    return who + ": inconsistent sparse storage";
  }
  rows.start.assign(u(m.n) + 1, 0);
  rows.col.reserve(m.col.size());
  rows.value.reserve(m.col.size());
  std::vector<std::size_t> order;
  for (long i = 0; i < m.n; ++i) {
    if (m.row_start[u(i)] > m.row_start[u(i) + 1]) return who + ": inconsistent sparse storage";
    order.resize(u(m.row_start[u(i) + 1] - m.row_start[u(i)]));
    std::iota(order.begin(), order.end(), u(m.row_start[u(i)]));
    const auto before = [&](std::size_t a, std::size_t b) {
      return m.col[a] < m.col[b] || (m.col[a] == m.col[b] && a < b);
    };
    if (!std::is_sorted(order.begin(), order.end(), before)) std::sort(order.begin(), order.end(), before);
    for (std::size_t k = 0; k < order.size();) {
      const int c = m.col[order[k]];
      if (c < 0 || c >= m.n) return who + ": column index out of range";
      DD sum = 0.0;
      for (; k < order.size() && m.col[order[k]] == c; ++k) sum += m.value[order[k]];
      if (!isfinite(sum)) return who + " has a non-finite entry";
      if (sum.hi == 0.0) continue;
      rows.col.push_back(c);
      rows.value.push_back(sum);
    }
    rows.start[u(i) + 1] = static_cast<long>(rows.col.size());
  }
  return {};
}

// Entries that differ by rounding of double-double extraction are averaged; more is an asymmetry.
// `asymmetry`: the largest difference, relative to the size that it is compared with.
std::string symmetrise(Rows& rows, long n, const char* name, double& asymmetry) {
  constexpr double kTolerance = 0x1p-80;
  for (long i = 0; i < n; ++i) {
    for (long k = rows.start[u(i)]; k < rows.start[u(i) + 1]; ++k) {
      const long j = rows.col[u(k)];
      if (j == i) continue;
      const auto first = rows.col.begin() + rows.start[u(j)], last = rows.col.begin() + rows.start[u(j) + 1];
      const auto it = std::lower_bound(first, last, static_cast<int>(i));
      const bool present = it != last && *it == i;
      const DD a = rows.value[u(k)];
      const DD b = present ? rows.value[static_cast<std::size_t>(it - rows.col.begin())] : DD(0.0);
      if (a == b) continue;
      const double diagonal = std::sqrt(std::fabs(rows.at(i, i).hi)) * std::sqrt(std::fabs(rows.at(j, j).hi));
      const double size = std::fmax(std::fmax(std::fabs(a.hi), std::fabs(b.hi)), 0x1p-16 * diagonal);
      asymmetry = std::fmax(asymmetry, std::fabs((a - b).hi) / size);
      if (std::fabs((a - b).hi) > kTolerance * size) {
        return std::string(name) + " is not symmetric: [" + std::to_string(i) + "][" + std::to_string(j) +
               "] = " + number(a.hi) + ", [" + std::to_string(j) + "][" + std::to_string(i) +
               "] = " + number(b.hi);
      }
      // An entry without a partner is rounding of zero.
      const DD mean = present ? ldexp(a + b, -1) : DD(0.0);
      rows.value[u(k)] = mean;
      if (present) rows.value[static_cast<std::size_t>(it - rows.col.begin())] = mean;
    }
  }
  return {};
}

constexpr double kSmallest = 0x1p-1060;  // what underflow can leave
// Beyond this growth no bound is stated.
constexpr double kMaxGrowth = 1e280;

struct Component {
  std::vector<long> index;
  long first_mode = 0;
  long modes = 0;
  // For the error: S is off by at most `spread` in the norm (of its making and of the eigenvectors); a unit of mode j
  // is to_q[j] of |q|, and to_p[j] of |p| in the first form; diagonal of |K|, row sums of |K|, of |Minv| (second form).
  double spread = 0.0;
  std::vector<double> to_q, to_p, k_diagonal;
  double l_squares = 0.0, inverse_l_squares = 0.0;  // sums over l^2, 1 / l^2
  double k_norm = 0.0, minv_norm = 0.0;
  double norm = 0.0;      // of S
  double residual = 0.0;  // relative to norm
  double orthogonality = 0.0;
  double mass_ratio = 1.0;
  // Minv diagonal and positive: y = V^T (q / l), pi = V^T (l p) + nu; rows of `basis` are eigenvectors.
  bool full_diagonal = false;
  std::vector<DD> l, over_l;  // over_l = 1 / l
  // Otherwise: rows of `basis` are those of W^T, W = L V (n x rank); q = q0 + W y, and the momentum follows
  // from the sum of the forces, so no inverse of L is needed.
  DDMatrix basis;
  std::vector<DD> force;  // in the modes; of g alone
  std::vector<DD> nu;     // the linear term in the modes
  std::vector<DD> v_over_l;
  std::vector<DD> g;
  DDMatrix k_dense;  // one of the two holds K for the second form
  Rows k_sparse;

  long size() const { return static_cast<long>(index.size()); }
};

void multiply_k(const Component& c, const std::vector<DD>& x, std::vector<DD>& y, const ParallelFor& pool) {
  const long n = c.size();
  if (c.k_dense.rows == n && n > 0) {
    matvec(c.k_dense.view(), x.data(), 1, y.data(), pool);
    return;
  }
  for (long i = 0; i < n; ++i) {
    DD sum = 0.0;
    for (long k = c.k_sparse.start[u(i)]; k < c.k_sparse.start[u(i) + 1]; ++k)
      sum += c.k_sparse.value[u(k)] * x[u(c.k_sparse.col[u(k)])];
    y[u(i)] = sum;
  }
}

// A pair of vectors each of which is moderate + huge 2^top: the huge parts lie beyond the range of doubles,
// and kept apart they overflow to an infinity of the right sign at the very end, never to NaN on the way.
struct WidePair {
  long n = 0;
  std::vector<DD> moderate, huge;  // two vectors each; huge is empty where there is none
  std::array<std::int64_t, 2> top{0, 0};

  DD at(int which, long i) const {
    const DD value = moderate[u(which * n + i)];
    if (huge.empty() || huge[u(which * n + i)].hi == 0.0) return value;
    return value + scale_exponent(huge[u(which * n + i)], top[u(which)]);
  }
};

// Collects the modes' values.
struct WideBuilder {
  long n;
  std::vector<DD> moderate, huge;
  std::vector<std::int64_t> exponent;
  std::array<std::int64_t, 2> top{0, 0};

  explicit WideBuilder(long size) : n(size), moderate(u(2 * size), DD(0.0)) {}

  void set(int which, long j, DD mantissa, std::int64_t e) {
    const std::size_t at = u(which * n + j);
    if ((e == 0 && std::fabs(mantissa.hi) < 0x1p900) || mantissa.hi == 0.0 || !isfinite(mantissa)) {
      moderate[at] = mantissa;
      return;
    }
    int own;
    (void)std::frexp(mantissa.hi, &own);
    if (own + e <= kHugeExponent) {
      moderate[at] = scale_exponent(mantissa, e);
      return;
    }
    if (huge.empty()) {
      huge.assign(moderate.size(), DD(0.0));
      exponent.assign(moderate.size(), 0);
    }
    huge[at] = ldexp(mantissa, -own);
    exponent[at] = std::min(own + e, kExponentLimit);
    top[u(which)] = std::max(top[u(which)], exponent[at]);
  }

  // y_v = sum_j basis_j x_vj.
  WidePair transform(const DDMatrix& basis, const ParallelFor& pool) {
    WidePair out;
    out.n = basis.cols;
    out.top = top;
    out.moderate.resize(u(2 * basis.cols));
    matvec_transposed(basis.view(), moderate.data(), 2, out.moderate.data(), pool);
    if (huge.empty()) return out;
    for (std::size_t i = 0; i < huge.size(); ++i)
      huge[i] = scale_exponent(huge[i], exponent[i] - top[i / u(n)]);
    out.huge.resize(out.moderate.size());
    matvec_transposed(basis.view(), huge.data(), 2, out.huge.data(), pool);
    return out;
  }
};

// What the error bounds of a component need, once its modes are known.
void measure(Component& c, const Rows& k, const Rows& minv, double asymmetry) {
  const long size = c.size();
  const double n = static_cast<double>(size);
  double minv_trace = 0.0;
  for (long i = 0; i < size; ++i) {
    const long row = c.index[u(i)];
    const auto row_sum = [&](const Rows& m) {
      double sum = 0.0;
      for (long e = m.start[u(row)]; e < m.start[u(row) + 1]; ++e) sum += std::fabs(m.value[u(e)].hi);
      return sum;
    };
    c.k_norm = std::max(c.k_norm, row_sum(k));
    c.minv_norm = std::max(c.minv_norm, row_sum(minv));
    c.k_diagonal.push_back(std::fabs(k.at(row, row).hi));
    minv_trace += minv.at(row, row).hi;
    if (c.full_diagonal) {
      c.l_squares += c.l[u(i)].hi * c.l[u(i)].hi;
      c.inverse_l_squares += 1.0 / (c.l[u(i)].hi * c.l[u(i)].hi);
    }
  }
  // S = L^T K L: its entries are right to some units where Minv is diagonal; a factor L of its own has |L|^2 |K|.
  const double made = c.full_diagonal || c.modes == 0 ? n * c.norm : n * minv_trace * c.k_norm;
  c.spread = 2.0 * c.residual * c.norm + (kUnit + asymmetry) * made;
  c.to_q.assign(u(c.modes), 0.0);
  if (c.full_diagonal) c.to_p.assign(u(c.modes), 0.0);
  for (long j = 0; j < c.modes; ++j) {
    double q = 0.0, p = 0.0;
    for (long i = 0; i < size; ++i) {
      const double x = c.basis.hi[u(j * size + i)];
      if (!c.full_diagonal) {
        q += x * x;
        continue;
      }
      const double l = c.l[u(i)].hi;
      q += (l * x) * (l * x);
      p += (x / l) * (x / l);
    }
    c.to_q[u(j)] = std::sqrt(q);
    if (c.full_diagonal) c.to_p[u(j)] = std::sqrt(p);
  }
}

// The sum of the weights of a step's forces.
DD force_weight(const IntegratorRow& row) {
  if (row.has(Part::kFlow)) return 1.0;
  DD sum = 0.0;
  for (const Substep& s : row.substeps)
    if (s.part != Part::kDrift) sum += s.coefficient;
  return sum;
}

}  // namespace

struct NormalModes::Impl {
  long n = 0;
  ParallelFor pool;
  Singles singles;
  std::vector<Component> components;
  std::vector<DD> lambda;  // shared modes of the singles, then the components' modes
  long shared = 0;
  std::vector<long> multiplicity;
  std::vector<bool> kinetic;  // false: a single without kinetic energy
  mutable std::mutex mutex;
  mutable std::deque<std::shared_ptr<const Jump>> kept;

  std::shared_ptr<const Jump> find(double h, std::int64_t steps, Integrator integrator) const;
  void add_single(long i, DD k, DD m, DD g, DD v);
  std::string build_component(Component& c, const Rows& k, const Rows& minv, std::span<const DD> g,
                              std::span<const DD> v, std::vector<DD>& values,
                              const ParallelFor& parallel) const;
  // Both return norms of the parts of the state that they did.
  StateError error_of(const Jump& jump, const Norms& norms) const;
  Norms apply_component(const Component& c, const Jump& jump, const DD* q, const DD* p, DD* q_out, DD* p_out,
                        const ParallelFor& parallel) const;
  void report(Jump& jump, std::span<const ModeAngle> angles) const;  // of the components' modes

  // Direct-mapped: finds equal neighbours and small alphabets of lambdas in O(1).
  std::array<long, 1024> recent{};
};

void NormalModes::Impl::add_single(long i, DD k, DD m, DD g, DD v) {
  const DD value = m * k;
  const bool moves = m.hi != 0.0;
  const std::size_t slot = (std::hash<double>{}(value.hi) * 0x9e3779b97f4a7c15u >> 54) & 1023u;
  long mode = recent[slot] - 1;
  if (mode < 0 || lambda[u(mode)] != value || kinetic[u(mode)] != moves) {
    mode = static_cast<long>(lambda.size());
    lambda.push_back(value);
    multiplicity.push_back(0);
    kinetic.push_back(moves);
    recent[slot] = mode + 1;
  }
  ++multiplicity[u(mode)];
  singles.add(i, mode, k, m, g, v);
}

std::string NormalModes::Impl::build_component(Component& c, const Rows& k, const Rows& minv,
                                               std::span<const DD> g, std::span<const DD> v,
                                               std::vector<DD>& values, const ParallelFor& parallel) const {
  const long size = c.size();
  bool diagonal = true, positive = true;
  std::vector<DD> root(u(size), DD(0.0));
  std::vector<long> support;
  double min_mass = std::numeric_limits<double>::infinity(), max_mass = 0.0;
  long nonzeros = 0;
  for (long i = 0; i < size; ++i) {
    const long row = c.index[u(i)];
    nonzeros += k.start[u(row) + 1] - k.start[u(row)];
    for (long e = minv.start[u(row)]; e < minv.start[u(row) + 1]; ++e)
      diagonal = diagonal && minv.col[u(e)] == row;
    const DD m = minv.at(row, row);
    if (m < 0.0) return "Minv not positive semidefinite: negative diagonal entry " + std::to_string(row);
    positive = positive && m.hi > 0.0;
    if (m.hi > 0.0) {
      root[u(i)] = sqrt(m);
      support.push_back(i);
      min_mass = std::min(min_mass, root[u(i)].hi);
      max_mass = std::max(max_mass, root[u(i)].hi);
    }
  }
  if (max_mass > 0.0) c.mass_ratio = max_mass / min_mass;
  // Column of each coordinate inside the component.
  const auto local = [&](int column) {
    return std::lower_bound(c.index.begin(), c.index.end(), static_cast<long>(column)) - c.index.begin();
  };
  c.g.assign(u(size), DD(0.0));
  for (long i = 0; i < size && !g.empty(); ++i) c.g[u(i)] = g[u(c.index[u(i)])];
  std::vector<DD> drift(u(size), DD(0.0));
  bool has_drift = false;
  for (long i = 0; i < size && !v.empty(); ++i) {
    drift[u(i)] = v[u(c.index[u(i)])];
    has_drift = has_drift || drift[u(i)].hi != 0.0;
  }
  c.full_diagonal = diagonal && positive;

  DDMatrix s;
  DDCholesky factor;
  std::vector<DD> v_l;
  const char* const kOutside = "v has a component outside the range of Minv";
  if (diagonal) {
    const long rank = static_cast<long>(support.size());
    std::vector<long> column(u(size), -1);
    for (long a = 0; a < rank; ++a) column[u(support[u(a)])] = a;
    s = DDMatrix(rank, rank);
    for (long a = 0; a < rank; ++a) {
      const long i = support[u(a)], row = c.index[u(i)];
      for (long e = k.start[u(row)]; e < k.start[u(row) + 1]; ++e) {
        const long j = local(k.col[u(e)]), b = column[u(j)];
        // Both triangles from the same product, so that S is symmetric to the last bit.
        if (b < 0 || b < a) continue;
        const DD entry = root[u(i)] * root[u(j)] * k.value[u(e)];
        s.set(a, b, entry);
        s.set(b, a, entry);
      }
    }
    v_l.assign(u(rank), DD(0.0));
    for (long i = 0; i < size && has_drift; ++i) {
      if (drift[u(i)].hi == 0.0) continue;
      if (column[u(i)] < 0) return kOutside;
      v_l[u(column[u(i)])] = drift[u(i)] / root[u(i)];
    }
  }
  const bool dense_k = !c.full_diagonal && nonzeros > size * size / 8;
  DDMatrix k_full;
  if (!diagonal || dense_k) {
    k_full = DDMatrix(size, size);
    for (long i = 0; i < size; ++i) {
      const long row = c.index[u(i)];
      for (long e = k.start[u(row)]; e < k.start[u(row) + 1]; ++e)
        k_full.set(i, local(k.col[u(e)]), k.value[u(e)]);
    }
  }
  if (!diagonal) {
    DDMatrix mass(size, size);
    for (long i = 0; i < size; ++i) {
      const long row = c.index[u(i)];
      for (long e = minv.start[u(row)]; e < minv.start[u(row) + 1]; ++e)
        mass.set(i, local(minv.col[u(e)]), minv.value[u(e)]);
    }
    factor = cholesky_pivoted(mass, parallel);
    if (!factor.reason.empty()) return "Minv not positive semidefinite: " + factor.reason;
    const DDMatrix kl = multiply(k_full.view(), false, factor.l.view(), false, false, parallel);
    s = multiply(factor.l.view(), true, kl.view(), false, true, parallel);
    v_l.assign(u(factor.rank), DD(0.0));
    if (has_drift) {
      v_l = solve_lower(factor, drift);
      std::vector<DD> back(u(size));
      matvec(factor.l.view(), v_l.data(), 1, back.data(), parallel);
      double max = 0.0, off = 0.0;
      for (long i = 0; i < size; ++i) {
        max = std::max(max, std::fabs(drift[u(i)].hi));
        off = std::max(off, std::fabs((back[u(i)] - drift[u(i)]).hi));
      }
      if (!(off <= 1e-24 * max)) return kOutside;
    }
  }

  const long rank = s.rows;
  c.modes = rank;
  values.clear();
  if (rank > 0) {
    SymmetricEigen eigen = symmetric_eigen_dd(s, parallel);
    if (!eigen.reason.empty()) return eigen.reason;
    c.norm = eigen.norm;
    c.residual = eigen.residual;
    c.orthogonality = eigen.orthogonality;
    values = std::move(eigen.values);
    c.nu.assign(u(rank), DD(0.0));
    if (has_drift) matvec(eigen.vectors.view(), v_l.data(), 1, c.nu.data(), parallel);
    if (c.full_diagonal || !diagonal) {
      c.basis = c.full_diagonal
                    ? std::move(eigen.vectors)
                    : multiply(eigen.vectors.view(), false, factor.l.view(), true, false, parallel);
    } else {
      c.basis = DDMatrix(rank, size);
      for (long j = 0; j < rank; ++j) {
        for (long a = 0; a < rank; ++a)
          c.basis.set(j, support[u(a)], eigen.vectors.at(j, a) * root[u(support[u(a)])]);
      }
    }
  } else {
    c.basis = DDMatrix(0, size);
  }
  if (c.full_diagonal) {
    c.l = std::move(root);
    for (const DD& l : c.l) c.over_l.push_back(DD(1.0) / l);
    c.v_over_l = std::move(v_l);
    std::vector<DD> lg(u(size));
    for (long i = 0; i < size; ++i) lg[u(i)] = -(c.l[u(i)] * c.g[u(i)]);
    c.force.assign(u(size), DD(0.0));
    matvec(c.basis.view(), lg.data(), 1, c.force.data(), parallel);
  } else if (dense_k) {
    c.k_dense = std::move(k_full);
  } else {
    c.k_sparse.start.assign(1, 0);
    for (long i = 0; i < size; ++i) {
      const long row = c.index[u(i)];
      for (long e = k.start[u(row)]; e < k.start[u(row) + 1]; ++e) {
        c.k_sparse.col.push_back(static_cast<int>(local(k.col[u(e)])));
        c.k_sparse.value.push_back(k.value[u(e)]);
      }
      c.k_sparse.start.push_back(static_cast<long>(c.k_sparse.col.size()));
    }
  }
  return {};
}

NormalModes::NormalModes(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NormalModes::~NormalModes() = default;

NormalModesResult NormalModes::build(const SparseDD& k_in, const SparseDD& minv_in, std::span<const DD> g,
                                     std::span<const DD> v, ParallelFor parallel, long dense_limit) {
  const auto refuse = [](std::string reason) { return NormalModesResult{nullptr, std::move(reason)}; };
  const long n = k_in.n;
  if (minv_in.n != n || (!g.empty() && g.size() != u(n)) || (!v.empty() && v.size() != u(n))) {
    return refuse("sizes of K, Minv, g and v differ");
  }
  Rows k, minv;
  std::string reason = canonical_rows(k_in, "K", k);
  if (reason.empty()) reason = canonical_rows(minv_in, "Minv", minv);
  double asymmetry = 0.0;
  if (reason.empty()) reason = symmetrise(k, n, "K", asymmetry);
  if (reason.empty()) reason = symmetrise(minv, n, "Minv", asymmetry);
  if (!reason.empty()) return refuse(std::move(reason));
  for (const DD x : g)
    if (!isfinite(x)) return refuse("g has a non-finite entry");
  for (const DD x : v)
    if (!isfinite(x)) return refuse("v has a non-finite entry");

  auto impl = std::make_unique<Impl>();
  impl->n = n;
  impl->pool = std::move(parallel);
  const auto couples = [](const Rows& rows, long i) {
    for (long e = rows.start[u(i)]; e < rows.start[u(i) + 1]; ++e) {
      if (rows.col[u(e)] != i) return true;
    }
    return false;
  };
  std::vector<bool> seen(u(n), false);
  std::vector<long> stack;
  for (long i = 0; i < n; ++i) {
    if (seen[u(i)]) continue;
    seen[u(i)] = true;
    if (!couples(k, i) && !couples(minv, i)) {
      const DD m = minv.at(i, i);
      if (m < 0.0)
        return refuse("Minv not positive semidefinite: negative diagonal entry " + std::to_string(i));
      impl->add_single(i, k.at(i, i), m, g.empty() ? DD(0.0) : g[u(i)], v.empty() ? DD(0.0) : v[u(i)]);
      continue;
    }
    Component c;
    stack.assign(1, i);
    while (!stack.empty()) {
      const long at = stack.back();
      stack.pop_back();
      c.index.push_back(at);
      for (const Rows* rows : {&k, &minv}) {
        for (long e = rows->start[u(at)]; e < rows->start[u(at) + 1]; ++e) {
          const long next = rows->col[u(e)];
          if (seen[u(next)]) continue;
          seen[u(next)] = true;
          stack.push_back(next);
        }
      }
    }
    std::sort(c.index.begin(), c.index.end());
    if (c.size() > dense_limit) {
      return refuse("component of " + std::to_string(c.size()) +
                    " coupled coordinates exceeds the dense limit (" + std::to_string(dense_limit) + ")");
    }
    impl->components.push_back(std::move(c));
  }
  impl->singles.finish();
  impl->shared = static_cast<long>(impl->lambda.size());

  const long count = static_cast<long>(impl->components.size());
  std::vector<std::string> reasons(u(count));
  std::vector<std::vector<DD>> values(u(count));
  const auto build_one = [&](long at, const ParallelFor& inner) {
    Component& c = impl->components[u(at)];
    reasons[u(at)] = impl->build_component(c, k, minv, g, v, values[u(at)], inner);
    if (reasons[u(at)].empty()) measure(c, k, minv, asymmetry);
  };
  // Small components side by side, large ones one after the other with their own blocks.
  run_blocks(impl->pool, count, [&](long at) {
    if (impl->components[u(at)].size() <= kSmallComponent) build_one(at, {});
  });
  for (long at = 0; at < count; ++at) {
    if (impl->components[u(at)].size() > kSmallComponent) build_one(at, impl->pool);
  }
  for (long at = 0; at < count; ++at) {
    if (!reasons[u(at)].empty()) return refuse(std::move(reasons[u(at)]));
    Component& c = impl->components[u(at)];
    c.first_mode = static_cast<long>(impl->lambda.size());
    impl->lambda.insert(impl->lambda.end(), values[u(at)].begin(), values[u(at)].end());
    impl->multiplicity.resize(impl->lambda.size(), 1);
    impl->kinetic.resize(impl->lambda.size(), true);
  }
  return {std::unique_ptr<NormalModes>(new NormalModes(std::move(impl))), {}};
}

long NormalModes::size() const { return impl_->n; }

std::shared_ptr<const Jump> NormalModes::Impl::find(double h, std::int64_t steps,
                                                    Integrator integrator) const {
  const std::lock_guard lock(mutex);
  for (const auto& old : kept) {
    // Bitwise equality of h, so that NaN finds itself and -0 is told from 0 harmlessly.
    if (old->steps == steps && old->integrator == integrator &&
        (old->h == h || (std::isnan(old->h) && std::isnan(h))))
      return old;
  }
  return nullptr;
}

bool NormalModes::has_jump(double h, std::int64_t steps, Integrator integrator) const {
  return impl_->find(h, steps, integrator) != nullptr;
}

long NormalModes::distinct() const { return static_cast<long>(impl_->lambda.size()); }

std::shared_ptr<const Jump> NormalModes::jump(double h, std::int64_t steps, Integrator integrator,
                                              const ModeKernels& kernels) const {
  if (auto old = impl_->find(h, steps, integrator)) return old;
  auto made = std::make_shared<Jump>();
  made->h = h;
  made->steps = steps;
  made->integrator = integrator;
  const long count = static_cast<long>(impl_->lambda.size());
  if (!std::isfinite(h)) {
    made->reason = "step size is not finite";
  } else if (steps < 0) {
    made->reason = "negative number of steps";
  } else {
    const IntegratorRow& row = row_of(integrator);
    const std::span<const DD> lambda = impl_->lambda;
    made->singles = impl_->singles.jump(lambda.first(u(impl_->shared)), h, steps, row, impl_->pool, kernels);
    made->reason = made->singles.powers.reason();
    const long coupled = count - impl_->shared;
    made->coefficients.resize(u(coupled));
    made->bounds.resize(u(coupled));
    std::vector<ModeAngle> angles(u(coupled));
    constexpr long kBlock = 64;
    const long blocks = (coupled + kBlock - 1) / kBlock;
    std::vector<std::string> reasons(u(blocks));
    run_blocks(impl_->pool, blocks, [&](long block) {
      for (long j = block * kBlock; j < std::min(coupled, (block + 1) * kBlock); ++j) {
        const DD value = lambda[u(impl_->shared + j)], z = value * h * h;
        const StepMap step = row.has(Part::kFlow) || !isfinite(z) ? StepMap{} : step_map(row, z);
        made->coefficients[u(j)] = mode_coefficients(value, h, steps, row, step, &reasons[u(block)]);
        angles[u(j)] = mode_angle(row, z, step);
        made->bounds[u(j)] = mode_bound(value, h, steps, angles[u(j)], made->coefficients[u(j)]);
      }
    });
    for (const std::string& r : reasons) {
      if (made->reason.empty()) made->reason = r;
    }
    impl_->report(*made, angles);
  }
  const std::lock_guard lock(impl_->mutex);
  impl_->kept.push_front(made);
  std::size_t held = 0, keep = 0;
  for (const auto& old : impl_->kept) {
    held += u(old->singles.powers.count()) + old->coefficients.size();
    if (keep > 0 && (keep == kKeptJumps || held > kKeptCoefficients)) break;
    ++keep;
  }
  impl_->kept.resize(keep);
  return made;
}

void NormalModes::Impl::report(Jump& jump, std::span<const ModeAngle> angles) const {
  JumpReport& r = jump.report;
  const double h = std::fabs(jump.h);
  const ModeExtremes& singly = jump.singles.powers.extremes();
  r.lambda_min = singly.lambda_min;
  r.lambda_max = singly.lambda_max;
  double phase = singly.phase, transforms = 0.0;
  const auto unstable = [&](long j, const ModeCoefficients& m) {
    r.unstable_modes += multiplicity[u(j)];
    if (m.t.hi == 0.0) return;
    const double decades =
        std::log10(std::fabs(m.t.hi)) + 0.30102999566398120 * static_cast<double>(m.exponent);
    r.log10_growth = std::max(r.log10_growth, decades);
  };
  for (const long j : jump.singles.powers.unstable()) unstable(j, jump.singles.powers.coefficients(j));
  for (const Component& c : components) {
    for (long j = c.first_mode; j < c.first_mode + c.modes; ++j) {
      const double l = lambda[u(j)].hi;
      r.lambda_min = std::min(r.lambda_min, l);
      r.lambda_max = std::max(r.lambda_max, l);
      const ModeAngle& angle = angles[u(j - shared)];
      if (angle.unstable) unstable(j, jump.coefficients[u(j - shared)]);
      phase = std::max(phase, phase_error(jump.h, jump.steps, angle, c.residual * c.norm));
    }
    r.refinement_residual = std::max(r.refinement_residual, c.residual);
    transforms = std::max(
        transforms, (static_cast<double>(c.size()) * 0x1p-103 + c.residual + c.orthogonality) * c.mass_ratio);
  }
  if (lambda.empty()) r.lambda_min = r.lambda_max = 0.0;
  if (r.lambda_max > 0.0) r.max_h_omega = h * std::sqrt(r.lambda_max);
  r.error_bound = 0x1p-53 + phase + transforms;
}

Norms NormalModes::Impl::apply_component(const Component& c, const Jump& jump, const DD* q, const DD* p,
                                         DD* q_out, DD* p_out, const ParallelFor& parallel) const {
  const long size = c.size(), modes = c.modes;
  const double step = std::fabs(jump.h),
               duration = stretched_time(row_of(jump.integrator), jump.h, jump.steps);
  const double transform = kUnit * static_cast<double>(size);  // of a dot product, relative to both norms
  Norms norms;
  std::vector<DD> state(u(2 * size)), in_modes(u(2 * modes));
  std::vector<double> q_before(u(size));
  for (long i = 0; i < size; ++i) {
    const double x = q[c.index[u(i)]].hi, y = p[c.index[u(i)]].hi;
    q_before[u(i)] = x;
    norms.q_before += x * x;
    norms.p_before += y * y;
  }
  const auto squares = [](const DD* x, long length) {
    double sum = 0.0;
    for (long i = 0; i < length; ++i) sum += x[i].hi * x[i].hi;
    return sum;
  };
  // Norms of the result, and of the forces of one step: at least those of the diagonal of K.
  const auto finish = [&](double q_error, double p_error) {
    for (long i = 0; i < size; ++i) {
      const double x = q_out[c.index[u(i)]].hi, y = p_out[c.index[u(i)]].hi;
      const double force = step * (c.k_diagonal[u(i)] * std::max(std::fabs(x), std::fabs(q_before[u(i)])) +
                                   std::fabs(c.g[u(i)].hi));
      norms.q += x * x;
      norms.p += y * y;
      norms.force += force * force;
    }
    norms.q_error = q_error * q_error;
    norms.p_error = p_error * p_error;
    return norms;
  };
  double growth = 1.0;
  for (long j = 0; j < modes; ++j)
    growth = std::max(growth, jump.bounds[u(c.first_mode - shared + j)].growth);
  WideBuilder next(modes);
  if (c.full_diagonal) {
    for (long i = 0; i < size; ++i) {
      state[u(i)] = q[c.index[u(i)]] * c.over_l[u(i)];
      state[u(size + i)] = p[c.index[u(i)]] * c.l[u(i)] + c.v_over_l[u(i)];
    }
    matvec(c.basis.view(), state.data(), 2, in_modes.data(), parallel);
    // Of the transforms into modes, each; the eigenvectors are orthogonal to c.orthogonality.
    const double off = transform + 2.0 * c.orthogonality;
    const double y_off = off * std::sqrt(squares(state.data(), size)),
                 pi_off = off * std::sqrt(squares(state.data() + size, size)),
                 f_off = off * std::sqrt(squares(c.force.data(), modes));
    double dq = 0.0, dp = 0.0, amplitude = 0.0, reach = 0.0;
    for (long j = 0; j < modes; ++j) {
      const ModeCoefficients& m = jump.coefficients[u(c.first_mode - shared + j)];
      const int down = headroom(in_modes[u(j)], in_modes[u(modes + j)]);
      const DD y = lowered(in_modes[u(j)], down), pi = lowered(in_modes[u(modes + j)], down),
               f = lowered(c.force[u(j)], down);
      const DD pull = f - lambda[u(c.first_mode + j)] * y;
      DD a = guarded(m.t, y) + guarded(m.b, pi), b = guarded(m.t_p, pi) + guarded(m.a1, pull);
      if (f.hi != 0.0) a += guarded(m.a2, f);
      next.set(0, j, a, m.exponent + down);
      next.set(1, j, b, m.exponent + down);

      const ModeBound& bound = jump.bounds[u(c.first_mode - shared + j)];
      const double stiff = std::fabs(lambda[u(c.first_mode + j)].hi);
      const double y0 = std::fabs(in_modes[u(j)].hi), pi0 = std::fabs(in_modes[u(modes + j)].hi),
                   f0 = std::fabs(c.force[u(j)].hi);
      const double largest_y = y0 + bound.lever * pi0 + bound.lever2 * f0;
      const double largest_pi = pi0 + bound.lever * (stiff * y0 + f0);
      const double relative = bound.rounding + transform;  // the transform out of the modes, too
      dq += c.to_q[u(j)] *
            (relative * largest_y + y_off + bound.lever * pi_off + bound.lever2 * f_off + kSmallest);
      dp +=
          c.to_p[u(j)] * (relative * largest_pi + pi_off + bound.lever * (stiff * y_off + f_off) + kSmallest);
      amplitude += largest_y * largest_y;
      reach += c.to_q[u(j)] * bound.lever * c.to_q[u(j)] * bound.lever;
    }
    const WidePair out = next.transform(c.basis, parallel);
    for (long i = 0; i < size; ++i) {
      q_out[c.index[u(i)]] = out.at(0, i) * c.l[u(i)];
      p_out[c.index[u(i)]] = (out.at(1, i) - c.v_over_l[u(i)]) * c.over_l[u(i)];
      if (c.v_over_l[u(i)].hi != 0.0) dp += kUnit * std::fabs(c.v_over_l[u(i)].hi) / c.l[u(i)].hi;
    }
    // S is off by `spread`: a kick of h spread |y| in each step.
    const double kicks = duration * c.spread * std::sqrt(amplitude);
    return finish(growth * (dq + kicks * std::sqrt(reach)),
                  growth * (dp + kicks * std::sqrt(c.inverse_l_squares)));
  }
  // y_0 = 0: the force is that of the starting position.
  std::vector<DD> start(u(size)), total(u(size));
  for (long i = 0; i < size; ++i) start[u(i)] = q[c.index[u(i)]];
  multiply_k(c, start, total, parallel);
  for (long i = 0; i < size; ++i) {
    total[u(i)] += c.g[u(i)];
    state[u(i)] = p[c.index[u(i)]];
    state[u(size + i)] = total[u(i)];
  }
  matvec(c.basis.view(), state.data(), 2, in_modes.data(), parallel);
  const double total_norm = std::sqrt(squares(total.data(), size)),
               summed = c.k_norm * std::sqrt(norms.q_before) + std::sqrt(squares(c.g.data(), size)),
               p_norm = std::sqrt(norms.p_before), force_off = transform * (total_norm + summed);
  double pi_norm = 0.0, f_norm = 0.0;
  for (long j = 0; j < modes; ++j) {
    pi_norm += sqr(in_modes[u(j)] + c.nu[u(j)]).hi;
    f_norm += sqr(in_modes[u(modes + j)]).hi;
  }
  const double pi_tilt = 2.0 * c.orthogonality * std::sqrt(pi_norm),
               f_tilt = 2.0 * c.orthogonality * std::sqrt(f_norm);
  double dq = 0.0, amplitude = 0.0, reach = 0.0, moved = 0.0;
  for (long j = 0; j < modes; ++j) {
    const ModeCoefficients& m = jump.coefficients[u(c.first_mode - shared + j)];
    DD pi = in_modes[u(j)] + c.nu[u(j)], f = -in_modes[u(modes + j)];
    const ModeBound& bound = jump.bounds[u(c.first_mode - shared + j)];
    const double largest = bound.lever * std::fabs(pi.hi) + bound.lever2 * std::fabs(f.hi);
    const double pi_off = c.to_q[u(j)] * transform * p_norm + kUnit * std::fabs(c.nu[u(j)].hi) + pi_tilt;
    const double f_off = c.to_q[u(j)] * force_off + f_tilt;
    dq += c.to_q[u(j)] *
          ((bound.rounding + transform) * largest + bound.lever * pi_off + bound.lever2 * f_off + kSmallest);
    amplitude += largest * largest;
    moved += c.to_q[u(j)] * largest;
    reach += c.to_q[u(j)] * bound.lever * c.to_q[u(j)] * bound.lever;
    const int down = headroom(pi, f);
    pi = lowered(pi, down);
    f = lowered(f, down);
    next.set(0, j, guarded(m.b, pi) + guarded(m.a2, f), m.exponent + down);
    next.set(1, j, guarded(m.a2_p, pi) + guarded(m.a3, f), m.exponent + down);
  }
  const WidePair out = next.transform(c.basis, parallel);
  const DD time = DD(jump.steps) * jump.h * force_weight(row_of(jump.integrator));
  // K times the summed displacement, its huge part apart.
  std::vector<DD> sum(out.moderate.begin() + size, out.moderate.end()), pull(u(size)),
      huge_pull(u(size), DD(0.0));
  multiply_k(c, sum, pull, parallel);
  if (!out.huge.empty()) {
    sum.assign(out.huge.begin() + size, out.huge.end());
    multiply_k(c, sum, huge_pull, parallel);
  }
  for (long i = 0; i < size; ++i) {
    q_out[c.index[u(i)]] = start[u(i)] + out.at(0, i);
    DD momentum = state[u(i)] - (guarded(time, total[u(i)]) + pull[u(i)]);
    if (huge_pull[u(i)].hi != 0.0) momentum -= scale_exponent(huge_pull[u(i)], out.top[1]);
    p_out[c.index[u(i)]] = momentum;
  }
  // The kicks of S as above; Minv = L L^T is right to some units, and moves q by that part of the velocities. p is what
  // all forces add up to: N h times those of the largest displacement.
  const double fastest = p_norm + duration * (summed + c.k_norm * moved);
  dq += duration * c.spread * std::sqrt(amplitude) * std::sqrt(reach) +
        duration * transform * c.minv_norm * (modes > 0 && !c.nu.empty() ? fastest : 0.0);
  const double dp = duration * (c.k_norm * (dq + transform * moved) + transform * (total_norm + summed)) +
                    kUnit * p_norm + kSmallest;
  return finish(growth * dq, growth * dp);
}

StateError NormalModes::Impl::error_of(const Jump& jump, const Norms& norms) const {
  const double walk = 0x1p-53 * std::sqrt(static_cast<double>(jump.steps));
  const double q_error = std::sqrt(norms.q_error), p_error = std::sqrt(norms.p_error);
  const double q_loop = walk * std::sqrt(std::max(norms.q_before, norms.q)),
               p_loop = walk * (std::sqrt(std::max(norms.p_before, norms.p)) + std::sqrt(norms.force));
  const auto relative = [](double error, double squares) {
    const double bound = error == 0.0 ? 0.0 : error / std::sqrt(squares);
    const bool stated = std::isfinite(squares) && std::isfinite(bound) && error < kMaxGrowth;
    return stated ? bound : std::numeric_limits<double>::infinity();
  };
  StateError out{relative(q_error, norms.q), relative(p_error, norms.p), relative(q_loop, norms.q),
                 relative(p_loop, norms.p), false};
  out.beyond_loop = q_error < kMaxGrowth && p_error < kMaxGrowth && (q_error > q_loop || p_error > p_loop);
  return out;
}

StateError NormalModes::apply(const Jump& jump, const DD* q, const DD* p, DD* q_out, DD* p_out) const {
  if (jump.steps == 0 || jump.h == 0.0) {
    std::copy_n(q, impl_->n, q_out);
    std::copy_n(p, impl_->n, p_out);
    return {};
  }
  Norms norms = impl_->singles.apply(jump.singles, q, p, q_out, p_out, impl_->pool);
  const long count = static_cast<long>(impl_->components.size());
  std::vector<Norms> parts(u(count));
  run_blocks(impl_->pool, count, [&](long at) {
    const Component& c = impl_->components[u(at)];
    if (c.size() <= kSmallComponent) parts[u(at)] = impl_->apply_component(c, jump, q, p, q_out, p_out, {});
  });
  for (long at = 0; at < count; ++at) {
    const Component& c = impl_->components[u(at)];
    if (c.size() > kSmallComponent)
      parts[u(at)] = impl_->apply_component(c, jump, q, p, q_out, p_out, impl_->pool);
    norms.add(parts[u(at)]);
  }
  return impl_->error_of(jump, norms);
}

StateError NormalModes::apply(const Jump& jump, const double* q, const double* p, double* q_out,
                              double* p_out) const {
  const long n = impl_->n;
  if (jump.steps == 0 || jump.h == 0.0) {
    std::copy_n(q, n, q_out);
    std::copy_n(p, n, p_out);
    return {};
  }
  StateError error;
  if (impl_->components.empty()) {
    const Norms norms = impl_->singles.apply(jump.singles, q, p, q_out, p_out, impl_->pool);
    error = impl_->error_of(jump, norms);
    error.largest = norms.largest;
  } else {
    std::vector<DD> x(q, q + n), y(p, p + n);
    error = apply(jump, x.data(), y.data(), x.data(), y.data());
    for (long i = 0; i < n; ++i) {
      q_out[i] = x[u(i)].hi;
      p_out[i] = y[u(i)].hi;
    }
  }
  error.q += 0x1p-53;
  error.p += 0x1p-53;
  return error;
}

std::string NormalModes::moments(double h, std::int64_t steps, Integrator integrator, const double* q,
                                 const double* p, const double* of_q, const double* of_p, long rows,
                                 const Moments& out) const {
  const IntegratorRow& row = row_of(integrator);
  const long n = impl_->n, members = n / rows;
  const Singles& s = impl_->singles;
  // What moves by itself today would not if a coupling that is 0 were not: all pairs of a member count.
  std::vector<std::vector<long>> singles_of(u(members));
  std::vector<std::vector<const Component*>> components_of(u(members));
  for (long e = 0; e < s.size(); ++e) singles_of[u(s.index(e) / rows)].push_back(e);
  for (const Component& c : impl_->components) {
    for (const long i : c.index)
      if (i / rows != c.index[0] / rows) return "coordinates of different members are coupled";
    if (!c.full_diagonal) return "the masses of coupled coordinates are no positive diagonal";
    components_of[u(c.index[0] / rows)].push_back(&c);
  }
  // A coordinate by itself, q = 2^unit y, p = 2^-unit pi, with a mass near 1.
  const auto unit_of = [&](long e) { return s.m(e).hi > 0.0 ? std::ilogb(s.m(e).hi) / 2 : 0; };
  const auto single = [&](long e) {
    const std::size_t i = u(s.index(e));
    const int unit = unit_of(e);
    return ModeLine{ldexp(s.k(e), 2 * unit),
                    ldexp(s.m(e), -2 * unit),
                    ldexp(s.k(e) * q[i] + s.g(e), unit),
                    ldexp(s.m(e) * p[i] + s.v(e), -unit),
                    0.0,
                    0.0,
                    std::ldexp(of_q[i], unit),
                    std::ldexp(of_p[i], -unit)};
  };
  if (rows == 1) {
    const long blocks = (members + kMemberBlock - 1) / kMemberBlock;
    std::vector<std::string> reasons(u(blocks));
    run_blocks(impl_->pool, blocks, [&](long at) {
      const long first = at * kMemberBlock, here = std::min(n - first, kMemberBlock);
      std::vector<ModeLine> modes;
      for (long i = first; i < first + here; ++i) modes.push_back(single(singles_of[u(i)][0]));
      const ModeMoments sums(modes, h, steps, row);
      reasons[u(at)] = sums.reason();
      if (!sums.reason().empty()) return;
      sums.diagonal(out.of_k + first, out.of_minv + first, out.of_g + first, out.of_v + first);
      for (long i = first; i < first + here; ++i) {
        const int unit = unit_of(singles_of[u(i)][0]);
        out.of_k[i] = std::ldexp(out.of_k[i], 2 * unit);
        out.of_minv[i] = std::ldexp(out.of_minv[i], -2 * unit);
        out.of_g[i] = std::ldexp(out.of_g[i], unit);
        out.of_v[i] = std::ldexp(out.of_v[i], -unit);
      }
    });
    for (const std::string& r : reasons)
      if (!r.empty()) return r;
    return {};
  }
  const auto member = [&](long b, const ParallelFor& parallel) -> std::string {
    // q = Q y, p = P pi; and the cotangents lambda_q = P lambda_y, lambda_p = Q lambda_pi. Row a of each is mode a.
    std::vector<ModeLine> modes;
    std::vector<double> to_q(u(rows * rows), 0.0), to_p(u(rows * rows), 0.0);
    for (const long e : singles_of[u(b)]) {
      const long at = static_cast<long>(modes.size()) * rows + s.index(e) % rows;
      to_q[u(at)] = std::ldexp(1.0, unit_of(e));
      to_p[u(at)] = std::ldexp(1.0, -unit_of(e));
      modes.push_back(single(e));
    }
    for (const Component* component : components_of[u(b)]) {
      const Component& c = *component;
      const long size = c.size();
      std::vector<DD> state(u(5 * size)), in_modes(u(5 * size));
      for (long e = 0; e < size; ++e) {
        const long i = c.index[u(e)];
        const DD l = c.l[u(e)];
        state[u(e)] = q[i] * c.over_l[u(e)];
        state[u(size + e)] = p[i] * l;
        state[u(2 * size + e)] = of_q[i] * l;
        state[u(3 * size + e)] = of_p[i] * c.over_l[u(e)];
        state[u(4 * size + e)] = c.v_over_l[u(e)];
      }
      matvec(c.basis.view(), state.data(), 5, in_modes.data(), parallel);
      for (long j = 0; j < size; ++j) {
        const DD lambda = impl_->lambda[u(c.first_mode + j)];
        const auto at = static_cast<long>(modes.size()) * rows;
        for (long e = 0; e < size; ++e) {
          const double v = c.basis.hi[u(j * size + e)], l = c.l[u(e)].hi;
          to_q[u(at + c.index[u(e)] % rows)] = v * l;
          to_p[u(at + c.index[u(e)] % rows)] = v / l;
        }
        modes.push_back({lambda, 1.0, lambda * in_modes[u(j)] - c.force[u(j)],
                         in_modes[u(size + j)] + in_modes[u(4 * size + j)], 0.0, 0.0,
                         in_modes[u(2 * size + j)].hi, in_modes[u(3 * size + j)].hi});
      }
    }
    const ModeMoments sums(modes, h, steps, row);
    if (!sums.reason().empty()) return sums.reason();
    std::vector<double> kicks(u(rows * rows)), drifts(u(rows * rows)), half(u(rows * rows)), of_g(u(rows)),
        of_v(u(rows));
    run_blocks(parallel, rows, [&](long a) {
      const auto of = sums.row(a, kicks.data() + a * rows, drifts.data() + a * rows);
      of_g[u(a)] = of.of_g;
      of_v[u(a)] = of.of_v;
    });
    // Row r: beside each coordinate i what goes with (i, r), sum over modes a, b of Q_ai G_ab Q_br.
    const auto back = [&](const std::vector<double>& to, const std::vector<double>& g, double* result) {
      gemm(rows, rows, rows, to.data(), rows, true, g.data(), rows, true, half.data(), rows, false, parallel);
      gemm(rows, rows, rows, half.data(), rows, false, to.data(), rows, false, result + b * rows, n, false,
           parallel);
    };
    back(to_q, kicks, out.of_k);
    back(to_p, drifts, out.of_minv);
    for (long i = 0; i < rows; ++i) {
      double g = 0.0, v = 0.0;
      for (long a = 0; a < rows; ++a) {
        g += to_q[u(a * rows + i)] * of_g[u(a)];
        v += to_p[u(a * rows + i)] * of_v[u(a)];
      }
      out.of_g[b * rows + i] = g;
      out.of_v[b * rows + i] = v;
    }
    return {};
  };
  if (members == 1) return member(0, impl_->pool);
  std::vector<std::string> reasons(u(members));
  run_blocks(impl_->pool, members, [&](long b) { reasons[u(b)] = member(b, {}); });
  for (const std::string& r : reasons)
    if (!r.empty()) return r;
  return {};
}

std::vector<double> NormalModes::frequencies() const {
  std::vector<double> list;
  for (std::size_t j = 0; j < impl_->lambda.size(); ++j) {
    if (!impl_->kinetic[j]) continue;
    const DD l = impl_->lambda[j];
    const double omega = l.hi < 0.0 ? -sqrt(-l).hi : sqrt(l).hi;
    list.insert(list.end(), u(impl_->multiplicity[j]), omega);
  }
  std::sort(list.begin(), list.end());
  return list;
}

std::vector<long> NormalModes::component_sizes() const {
  std::vector<long> sizes;
  for (const Component& c : impl_->components) sizes.push_back(c.size());
  return sizes;
}

double NormalModes::build_seconds_estimate(std::span<const long> sizes) {
  const CostModel& c = cost_model();
  double seconds = 0.0;
  for (const long size : sizes) {
    const double n = static_cast<double>(size);
    // Products at the speed of dgemm, the rest of the sweeps per element, the tridiagonal solver's fixed part
    // per row.
    seconds += (c.modes_build_cubic_s * n * n + c.modes_build_square_s * n + c.modes_build_row_s) * n;
  }
  return seconds;
}

double NormalModes::apply_seconds_estimate(std::span<const long> sizes) {
  const CostModel& c = cost_model();
  double seconds = 0.0;
  for (const long size : sizes) {
    const double n = static_cast<double>(size);
    seconds += (c.modes_apply_square_s * n + c.modes_apply_row_s) * n;
  }
  return seconds;
}

}  // namespace tinyphys
