// Transforms over any axes: lines of one axis, block after block, by FFTW's plans for many lines at once.
//
// A block of lines along the last axis is contiguous and is transformed where it lies. Of another axis a few neighbouring
// lines are copied together, so that whole cache lines are read and the transform itself stays in the cache.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

#include "linalg/fft.hpp"
#include "support/thread_pool.hpp"
#include "tinyphys/error.hpp"

#if TINYPHYS_HAVE_FFTW
#include <fftw3.h>
#endif

namespace tinyphys {

#if TINYPHYS_HAVE_FFTW

namespace {

enum class Kind : int { kForward, kInverse, kReal, kRealInverse };

// `count` lines of n points, as they lie in memory.
struct Lines {
  int n, count;
  bool together;  // line after line; else point after point, a line's points `count` apart
};

template <class R> struct Library;
template <> struct Library<double> {
  using Plan = fftw_plan;
  using Complex = fftw_complex;
  static constexpr auto* complex_plan = fftw_plan_many_dft;
  static constexpr auto* real_plan = fftw_plan_many_dft_r2c;
  static constexpr auto* real_inverse_plan = fftw_plan_many_dft_c2r;
  static constexpr auto* run_complex = fftw_execute_dft;
  static constexpr auto* run_real = fftw_execute_dft_r2c;
  static constexpr auto* run_real_inverse = fftw_execute_dft_c2r;
  static constexpr auto* alignment = fftw_alignment_of;
  static constexpr auto* allocate = fftw_malloc;
  static constexpr auto* free = fftw_free;
};
template <> struct Library<float> {
  using Plan = fftwf_plan;
  using Complex = fftwf_complex;
  static constexpr auto* complex_plan = fftwf_plan_many_dft;
  static constexpr auto* real_plan = fftwf_plan_many_dft_r2c;
  static constexpr auto* real_inverse_plan = fftwf_plan_many_dft_c2r;
  static constexpr auto* run_complex = fftwf_execute_dft;
  static constexpr auto* run_real = fftwf_execute_dft_r2c;
  static constexpr auto* run_real_inverse = fftwf_execute_dft_c2r;
  static constexpr auto* alignment = fftwf_alignment_of;
  static constexpr auto* allocate = fftwf_malloc;
  static constexpr auto* free = fftwf_free;
};

// Memory as aligned as plans want it.
template <class R> class Aligned {
 public:
  explicit Aligned(std::size_t reals)
      : data_(static_cast<R*>(Library<R>::allocate(std::max<std::size_t>(reals, 1) * sizeof(R)))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Aligned() { Library<R>::free(data_); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  R* get() const { return data_; }

 private:
  R* data_;
};

// Plans are kept for the life of the process; arrays that they run on are aligned as the planner's were.
template <class R> typename Library<R>::Plan plan(Kind kind, const Lines& lines, bool in_place) {
  using L = Library<R>;
  using Key = std::array<int, 5>;
  // Leaked on purpose: a transform may run in the destructor of a static object.
  static auto* plans = new std::map<Key, typename L::Plan>;
  std::lock_guard lock(fft_planner_mutex());
  const Key key{static_cast<int>(kind), lines.n, lines.count, lines.together, in_place};
  auto [it, fresh] = plans->try_emplace(key, nullptr);
  if (!fresh) return it->second;
  const int half = lines.n / 2 + 1;
  const auto size =
      2 * static_cast<std::size_t>(std::max(lines.n, half)) * static_cast<std::size_t>(lines.count);
  const Aligned<R> a(size), b(in_place ? 0 : size);
  const int n = lines.n, count = lines.count, step = lines.together ? 1 : count;
  const auto next = [&](int length) { return lines.together ? length : 1; };
  auto* const complex_in = reinterpret_cast<typename L::Complex*>(a.get());
  R* const to = in_place ? a.get() : b.get();
  auto* const complex_out = reinterpret_cast<typename L::Complex*>(to);
  const auto make = [&](unsigned flags) -> typename L::Plan {
    switch (kind) {
      case Kind::kReal:
        return L::real_plan(1, &n, count, a.get(), nullptr, step, next(n), complex_out, nullptr, step,
                            next(half), flags | FFTW_PRESERVE_INPUT);
      case Kind::kRealInverse:
        return L::real_inverse_plan(1, &n, count, complex_in, nullptr, step, next(half), to, nullptr, step,
                                    next(n), flags | FFTW_DESTROY_INPUT);
      default:
        return L::complex_plan(1, &n, count, complex_in, nullptr, step, next(n), complex_out, nullptr, step,
                               next(n), kind == Kind::kForward ? FFTW_FORWARD : FFTW_BACKWARD,
                               flags | FFTW_PRESERVE_INPUT);
    }
  };
  it->second = make(FFTW_PATIENT | FFTW_WISDOM_ONLY);
  if (!it->second) it->second = make(FFTW_ESTIMATE);
  if (!it->second) {
    plans->erase(it);
    throw Error("fft", "FFTW made no plan", "", 0);
  }
  return it->second;
}

template <class R> void run(Kind kind, typename Library<R>::Plan p, const R* in, R* out) {
  using L = Library<R>;
  auto* const from = const_cast<R*>(in);
  switch (kind) {
    case Kind::kReal: return L::run_real(p, from, reinterpret_cast<typename L::Complex*>(out));
    case Kind::kRealInverse: return L::run_real_inverse(p, reinterpret_cast<typename L::Complex*>(from), out);
    default:
      return L::run_complex(p, reinterpret_cast<typename L::Complex*>(from),
                            reinterpret_cast<typename L::Complex*>(out));
  }
}

// FFTW wants 16 bytes.
template <class R> bool is_aligned(const R* p) { return Library<R>::alignment(const_cast<R*>(p)) == 0; }

// One axis of an array [outer, n, inner] of numbers.
struct Axis {
  std::int64_t outer, inner;
  int n;
};

// What goes in, and what comes out: numbers of a line, and reals of a number.
struct Side {
  std::int64_t length, width;
};

template <class R> void copy(const R* from, R* to, std::int64_t reals) {
  std::memcpy(to, from, static_cast<std::size_t>(reals) * sizeof(R));
}

// The imaginary parts that a real line cannot have are not read.
template <class R> void drop_imaginary(R* half, int n, std::int64_t line, std::int64_t stride) {
  half[2 * line + 1] = 0;
  if (n % 2 == 0) half[2 * (line + stride * (n / 2)) + 1] = 0;
}

// in == out: in place.
template <class R> void transform_axis(Kind kind, const Axis& axis, const R* in, R* out) {
  const std::int64_t half = axis.n / 2 + 1;
  const Side from{kind == Kind::kRealInverse ? half : axis.n, kind == Kind::kReal ? 1 : 2};
  const Side to{kind == Kind::kReal ? half : axis.n, kind == Kind::kRealInverse ? 1 : 2};
  constexpr std::int64_t kBlockPoints = 8192;  // so much work is worth a thread's attention
  constexpr std::int64_t kAlignedReals = 16 / sizeof(R);
  if (axis.inner == 1) {
    // So many lines begin where it is aligned, whatever their length.
    std::int64_t few = 1;
    while (few * from.length * from.width % kAlignedReals != 0 ||
           few * to.length * to.width % kAlignedReals != 0)
      few *= 2;
    const std::int64_t lines = std::max(few, kBlockPoints / axis.n / few * few);
    const auto plan_of = [&](std::int64_t count) {
      return count == 0 ? nullptr : plan<R>(kind, {axis.n, static_cast<int>(count), true}, in == out);
    };
    const auto full = plan_of(axis.outer < lines ? 0 : lines), rest = plan_of(axis.outer % lines);
    const bool direct = is_aligned(in) && is_aligned(out) && kind != Kind::kRealInverse;
    parallel_for((axis.outer + lines - 1) / lines, [&](long block) {
      const std::int64_t first = block * lines, count = std::min(lines, axis.outer - first);
      const R* source = in + first * from.length * from.width;
      R* target = out + first * to.length * to.width;
      const std::int64_t read = count * from.length * from.width, written = count * to.length * to.width;
      const auto p = count == lines ? full : rest;
      if (direct) return run<R>(kind, p, source, target);
      const Aligned<R> a(static_cast<std::size_t>(read));
      copy(source, a.get(), read);
      if (kind == Kind::kRealInverse)
        for (std::int64_t k = 0; k < count; ++k) drop_imaginary(a.get() + 2 * k * half, axis.n, 0, 1);
      if (in == out) {
        run<R>(kind, p, a.get(), a.get());
        copy(a.get(), target, written);
      } else if (is_aligned(target)) {
        run<R>(kind, p, a.get(), target);
      } else {
        const Aligned<R> b(static_cast<std::size_t>(written));
        run<R>(kind, p, a.get(), b.get());
        copy(b.get(), target, written);
      }
    });
    return;
  }
  constexpr std::int64_t kTogether = 128 / sizeof(R) / 2;  // complex numbers of two cache lines
  const std::int64_t width = std::min(axis.inner, kTogether), columns = (axis.inner + width - 1) / width;
  const std::int64_t group = std::max<std::int64_t>(1, kBlockPoints / (width * axis.n));
  const std::int64_t pieces = axis.outer * columns;
  const auto plan_of = [&](std::int64_t count) {
    return count == 0 ? nullptr : plan<R>(kind, {axis.n, static_cast<int>(count), false}, false);
  };
  const auto full = plan_of(width), rest = plan_of(axis.inner % width);
  parallel_for((pieces + group - 1) / group, [&](long block) {
    const Aligned<R> a(static_cast<std::size_t>(width * from.length * from.width));
    const Aligned<R> b(static_cast<std::size_t>(width * to.length * to.width));
    for (std::int64_t piece = block * group; piece < std::min(pieces, (block + 1) * group); ++piece) {
      const std::int64_t o = piece / columns, column = piece % columns * width;
      const std::int64_t count = std::min(width, axis.inner - column);
      const R* source = in + (o * from.length * axis.inner + column) * from.width;
      R* target = out + (o * to.length * axis.inner + column) * to.width;
      for (std::int64_t k = 0; k < from.length; ++k)
        copy(source + k * axis.inner * from.width, a.get() + k * count * from.width, count * from.width);
      if (kind == Kind::kRealInverse)
        for (std::int64_t k = 0; k < count; ++k) drop_imaginary(a.get(), axis.n, k, count);
      run<R>(kind, count == width ? full : rest, a.get(), b.get());
      for (std::int64_t k = 0; k < to.length; ++k)
        copy(b.get() + k * count * to.width, target + k * axis.inner * to.width, count * to.width);
    }
  });
}

Axis axis_of(std::span<const std::int64_t> shape, std::int64_t axis) {
  const auto a = static_cast<std::size_t>(axis);
  Axis out{1, 1, static_cast<int>(shape[a])};
  for (std::size_t d = 0; d < a; ++d) out.outer *= shape[d];
  for (std::size_t d = a + 1; d < shape.size(); ++d) out.inner *= shape[d];
  return out;
}

void check_axes(std::span<const std::int64_t> shape, std::span<const std::int64_t> axes) {
  bool ok = !axes.empty();
  for (std::int64_t a : axes) {
    ok = ok && a >= 0 && a < static_cast<std::int64_t>(shape.size());
    if (ok) {
      const std::int64_t n = shape[static_cast<std::size_t>(a)];
      ok = n > 0 && n <= std::numeric_limits<int>::max() / 2;
    }
  }
  if (!ok) throw Error("fft", "an axis that is none, or has no or more than 2^30 points", "", 0);
}

bool is_empty(std::span<const std::int64_t> shape) {
  return std::find(shape.begin(), shape.end(), 0) != shape.end();
}
std::vector<std::int64_t> halved(std::span<const std::int64_t> shape, std::int64_t axis) {
  std::vector<std::int64_t> out(shape.begin(), shape.end());
  std::int64_t& n = out[static_cast<std::size_t>(axis)];
  n = n / 2 + 1;
  return out;
}

template <class R> R* reals(std::complex<R>* p) { return reinterpret_cast<R*>(p); }
template <class R> const R* reals(const std::complex<R>* p) { return reinterpret_cast<const R*>(p); }

}  // namespace

template <class R>
void fft_axes(std::span<const std::int64_t> shape, std::span<const std::int64_t> axes, FftDirection direction,
              const std::complex<R>* in, std::complex<R>* out) {
  check_axes(shape, axes);
  if (is_empty(shape)) return;
  const Kind kind = direction == FftDirection::kForward ? Kind::kForward : Kind::kInverse;
  const std::complex<R>* from = in;
  for (std::size_t i = axes.size(); i-- > 0; from = out)
    transform_axis<R>(kind, axis_of(shape, axes[i]), reals(from), reals(out));
}

template <class R>
void fft_axes_real(std::span<const std::int64_t> shape, std::span<const std::int64_t> axes, const R* in,
                   std::complex<R>* out) {
  check_axes(shape, axes);
  if (is_empty(shape)) return;
  transform_axis<R>(Kind::kReal, axis_of(shape, axes.back()), in, reals(out));
  const auto half = halved(shape, axes.back());
  for (std::size_t i = axes.size() - 1; i-- > 0;)
    transform_axis<R>(Kind::kForward, axis_of(half, axes[i]), reals(out), reals(out));
}

template <class R>
void fft_axes_real_inverse(std::span<const std::int64_t> shape, std::span<const std::int64_t> axes,
                           const std::complex<R>* in, R* out) {
  check_axes(shape, axes);
  if (is_empty(shape)) return;
  const auto half = halved(shape, axes.back());
  const Axis last = axis_of(shape, axes.back());
  if (axes.size() == 1) return transform_axis<R>(Kind::kRealInverse, last, reals(in), out);
  std::size_t points = 1;
  for (std::int64_t n : half) points *= static_cast<std::size_t>(n);
  const Aligned<R> between(2 * points);
  const R* from = reals(in);
  for (std::size_t i = axes.size() - 1; i-- > 0; from = between.get())
    transform_axis<R>(Kind::kInverse, axis_of(half, axes[i]), from, between.get());
  transform_axis<R>(Kind::kRealInverse, last, between.get(), out);
}

#else

template <class R>
void fft_axes(std::span<const std::int64_t>, std::span<const std::int64_t>, FftDirection,
              const std::complex<R>*, std::complex<R>*) {
  throw Error("fft", "this build has no FFTW; configure with -DTINYPHYS_FFTW=ON", "", 0);
}
template <class R>
void fft_axes_real(std::span<const std::int64_t>, std::span<const std::int64_t>, const R*, std::complex<R>*) {
  throw Error("fft", "this build has no FFTW; configure with -DTINYPHYS_FFTW=ON", "", 0);
}
template <class R>
void fft_axes_real_inverse(std::span<const std::int64_t>, std::span<const std::int64_t>,
                           const std::complex<R>*, R*) {
  throw Error("fft", "this build has no FFTW; configure with -DTINYPHYS_FFTW=ON", "", 0);
}

#endif

template void fft_axes<double>(std::span<const std::int64_t>, std::span<const std::int64_t>, FftDirection,
                               const std::complex<double>*, std::complex<double>*);
template void fft_axes<float>(std::span<const std::int64_t>, std::span<const std::int64_t>, FftDirection,
                              const std::complex<float>*, std::complex<float>*);
template void fft_axes_real<double>(std::span<const std::int64_t>, std::span<const std::int64_t>,
                                    const double*, std::complex<double>*);
template void fft_axes_real<float>(std::span<const std::int64_t>, std::span<const std::int64_t>, const float*,
                                   std::complex<float>*);
template void fft_axes_real_inverse<double>(std::span<const std::int64_t>, std::span<const std::int64_t>,
                                            const std::complex<double>*, double*);
template void fft_axes_real_inverse<float>(std::span<const std::int64_t>, std::span<const std::int64_t>,
                                           const std::complex<float>*, float*);

}  // namespace tinyphys
