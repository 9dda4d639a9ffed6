#include "linalg/fft.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "tinyphys/error.hpp"

#if TINYPHYS_HAVE_FFTW
#include <fftw3.h>
#endif

namespace tinyphys {

std::mutex& fft_planner_mutex() {
  // Leaked on purpose, as the plans are.
  static auto* m = new std::mutex;
  return *m;
}

#if TINYPHYS_HAVE_FFTW

namespace {

enum class Kind { kForward, kInverse, kReal, kRealInverse };

// Plans are kept for the life of the process: making one costs more than running it, and FFTW's planner is
// not safe for several threads while running a plan on new arrays is.
struct Planner {
  std::map<std::tuple<Kind, std::vector<std::int64_t>, bool>, fftw_plan> plans;
  std::map<std::tuple<std::vector<fftw_r2r_kind>, std::vector<std::int64_t>, bool>, fftw_plan> by_ends;
};
Planner& planner() {
  // Leaked on purpose: a transform may run in the destructor of a static object.
  static auto* p = new Planner;
  return *p;
}

std::int64_t points(std::span<const std::int64_t> shape) {
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  return n;
}
// Values along the last axis of the spectrum of real data.
std::int64_t half_points(std::span<const std::int64_t> shape) {
  return shape.back() == 0 ? 0 : points(shape) / shape.back() * (shape.back() / 2 + 1);
}

void check(std::span<const std::int64_t> shape, std::int64_t batch) {
  constexpr std::size_t kMaxRank = 3;
  bool ok = !shape.empty() && shape.size() <= kMaxRank && batch >= 0;
  for (std::int64_t d : shape) ok = ok && d > 0 && d <= std::numeric_limits<int>::max();
  if (ok) return;
  std::string text;
  for (std::int64_t d : shape) text += (text.empty() ? "" : ",") + std::to_string(d);
  throw Error("fft", "cannot transform shape [" + text + "]: 1 to 3 axes of at least one point", "", 0);
}

fftw_complex* raw(std::complex<double>* p) { return reinterpret_cast<fftw_complex*>(p); }
fftw_complex* raw(const std::complex<double>* p) { return raw(const_cast<std::complex<double>*>(p)); }

// UNALIGNED: the plan then fits any array of the caller's, and the same code runs whatever its address.
fftw_plan plan(Kind kind, std::span<const std::int64_t> shape, bool in_place) {
  Planner& p = planner();
  std::lock_guard lock(fft_planner_mutex());
  auto [it, fresh] = p.plans.try_emplace({kind, {shape.begin(), shape.end()}, in_place}, nullptr);
  if (!fresh) return it->second;
  const std::vector<int> n(shape.begin(), shape.end());
  const int rank = static_cast<int>(n.size());
  const auto count = static_cast<std::size_t>(points(shape));
  // ESTIMATE does not touch the arrays, but wants them to exist. WISDOM_ONLY first: a stored plan is better.
  std::vector<std::complex<double>> a(count + 1), b(in_place ? 0 : count + 1);
  std::complex<double>* to = in_place ? a.data() : b.data();
  auto make = [&](unsigned flags) -> fftw_plan {
    switch (kind) {
      case Kind::kForward: return fftw_plan_dft(rank, n.data(), raw(a.data()), raw(to), FFTW_FORWARD, flags);
      case Kind::kInverse: return fftw_plan_dft(rank, n.data(), raw(a.data()), raw(to), FFTW_BACKWARD, flags);
      case Kind::kReal:
        return fftw_plan_dft_r2c(rank, n.data(), reinterpret_cast<double*>(a.data()), raw(to),
                                 flags | FFTW_PRESERVE_INPUT);
      case Kind::kRealInverse:
        return fftw_plan_dft_c2r(rank, n.data(), raw(a.data()), reinterpret_cast<double*>(to), flags);
    }
    return nullptr;
  };
  it->second = make(FFTW_PATIENT | FFTW_UNALIGNED | FFTW_WISDOM_ONLY);
  if (!it->second) it->second = make(FFTW_ESTIMATE | FFTW_UNALIGNED);
  if (!it->second) {
    p.plans.erase(it);
    throw Error("fft", "FFTW made no plan", "", 0);
  }
  return it->second;
}

}  // namespace

bool fft_available() { return true; }

void fft(std::span<const std::int64_t> shape, FftDirection direction, const std::complex<double>* in,
         std::complex<double>* out, std::int64_t batch) {
  check(shape, batch);
  const std::int64_t n = points(shape);
  const bool inverse = direction == FftDirection::kInverse;
  const fftw_plan p = plan(inverse ? Kind::kInverse : Kind::kForward, shape, in == out);
  for (std::int64_t b = 0; b < batch; ++b) fftw_execute_dft(p, raw(in + b * n), raw(out + b * n));
  if (inverse)
    for (std::int64_t i = 0; i < n * batch; ++i) out[i] /= static_cast<double>(n);
}

void fft_real(std::span<const std::int64_t> shape, const double* in, std::complex<double>* out,
              std::int64_t batch) {
  check(shape, batch);
  const std::int64_t n = points(shape), m = half_points(shape);
  const fftw_plan p = plan(Kind::kReal, shape, false);
  for (std::int64_t b = 0; b < batch; ++b)
    fftw_execute_dft_r2c(p, const_cast<double*>(in + b * n), raw(out + b * m));
}

void fft_real_inverse(std::span<const std::int64_t> shape, const std::complex<double>* in, double* out,
                      std::int64_t batch) {
  check(shape, batch);
  const std::int64_t n = points(shape), m = half_points(shape);
  const fftw_plan p = plan(Kind::kRealInverse, shape, false);
  std::vector<std::complex<double>> copy(static_cast<std::size_t>(m));  // the transform overwrites its input
  for (std::int64_t b = 0; b < batch; ++b) {
    std::copy(in + b * m, in + (b + 1) * m, copy.begin());
    fftw_execute_dft_c2r(p, raw(copy.data()), out + b * n);
  }
  for (std::int64_t i = 0; i < n * batch; ++i) out[i] /= static_cast<double>(n);
}

void transform_by_ends(std::span<const std::int64_t> shape, std::span<const End> ends, FftDirection direction,
                       const double* in, double* out) {
  check(shape, 1);
  const bool inverse = direction == FftDirection::kInverse;
  std::vector<fftw_r2r_kind> kinds;
  double scale = 1;
  for (std::size_t a = 0; a < shape.size(); ++a) {
    const auto n = static_cast<double>(shape[a]);
    switch (ends[a]) {
      case End::kPeriodic:
        kinds.push_back(inverse ? FFTW_HC2R : FFTW_R2HC);
        scale *= n;
        break;
      case End::kFixed:
        kinds.push_back(FFTW_RODFT00);
        scale *= 2 * (n + 1);
        break;
      case End::kFree:
        kinds.push_back(inverse ? FFTW_REDFT01 : FFTW_REDFT10);
        scale *= 2 * n;
        break;
    }
  }
  fftw_plan made;
  {
    Planner& p = planner();
    std::lock_guard lock(fft_planner_mutex());
    auto [it, fresh] = p.by_ends.try_emplace({kinds, {shape.begin(), shape.end()}, in == out}, nullptr);
    if (fresh) {
      const std::vector<int> n(shape.begin(), shape.end());
      const auto count = static_cast<std::size_t>(points(shape));
      std::vector<double> a(count), b(in == out ? 0 : count);
      // An inverse of several axes destroys its input even where it is told not to, so that none is asked to.
      it->second =
          fftw_plan_r2r(static_cast<int>(n.size()), n.data(), a.data(), in == out ? a.data() : b.data(),
                        kinds.data(), FFTW_ESTIMATE | FFTW_UNALIGNED);
      if (!it->second) {
        p.by_ends.erase(it);
        throw Error("fft", "FFTW made no plan", "", 0);
      }
    }
    made = it->second;
  }
  if (in == out) {
    fftw_execute_r2r(made, out, out);
  } else {
    std::vector<double> copy(in, in + points(shape));
    fftw_execute_r2r(made, copy.data(), out);
  }
  if (inverse)
    for (std::int64_t i = 0; i < points(shape); ++i) out[i] /= scale;
}

bool load_fft_wisdom(const std::string& path) {
  std::lock_guard lock(fft_planner_mutex());
  return fftw_import_wisdom_from_filename(path.c_str()) != 0;
}
bool save_fft_wisdom(const std::string& path) {
  std::lock_guard lock(fft_planner_mutex());
  return fftw_export_wisdom_to_filename(path.c_str()) != 0;
}

#else

namespace {
[[noreturn]] void missing() {
  throw Error("fft", "this build has no FFTW; configure with -DTINYPHYS_FFTW=ON", "", 0);
}
}  // namespace

bool fft_available() { return false; }
void fft(std::span<const std::int64_t>, FftDirection, const std::complex<double>*, std::complex<double>*,
         std::int64_t) {
  missing();
}
void fft_real(std::span<const std::int64_t>, const double*, std::complex<double>*, std::int64_t) {
  missing();
}
void fft_real_inverse(std::span<const std::int64_t>, const std::complex<double>*, double*, std::int64_t) {
  missing();
}
void transform_by_ends(std::span<const std::int64_t>, std::span<const End>, FftDirection, const double*,
                       double*) {
  missing();
}
bool load_fft_wisdom(const std::string&) { missing(); }
bool save_fft_wisdom(const std::string&) { missing(); }

#endif

}  // namespace tinyphys
