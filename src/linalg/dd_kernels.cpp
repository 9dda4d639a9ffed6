#include "linalg/dd_kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tinyphys {

namespace portable {

struct Vec {
  double v[8];
};

#define TP_TARGET
#define TP_INLINE static inline
#define TP_MEMBER inline

TP_INLINE Vec zero() { return Vec{}; }
TP_INLINE Vec broadcast(double x) { return Vec{{x, x, x, x, x, x, x, x}}; }
TP_INLINE Vec load(const double* p) {
  Vec r;
  for (int i = 0; i < 8; ++i) r.v[i] = p[i];
  return r;
}
TP_INLINE void store(double* p, Vec a) {
  for (int i = 0; i < 8; ++i) p[i] = a.v[i];
}
TP_INLINE Vec add(Vec a, Vec b) {
  for (int i = 0; i < 8; ++i) a.v[i] += b.v[i];
  return a;
}
TP_INLINE Vec sub(Vec a, Vec b) {
  for (int i = 0; i < 8; ++i) a.v[i] -= b.v[i];
  return a;
}
TP_INLINE Vec mul(Vec a, Vec b) {
  for (int i = 0; i < 8; ++i) a.v[i] *= b.v[i];
  return a;
}
TP_INLINE Vec mul_error(Vec a, Vec b, Vec p) {
  for (int i = 0; i < 8; ++i) a.v[i] = __builtin_fma(a.v[i], b.v[i], -p.v[i]);
  return a;
}
TP_INLINE Vec mul_add(Vec a, Vec b, Vec c) {
  for (int i = 0; i < 8; ++i) a.v[i] = __builtin_fma(a.v[i], b.v[i], c.v[i]);
  return a;
}
TP_INLINE Vec vmax(Vec a, Vec b) {
  for (int i = 0; i < 8; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
TP_INLINE Vec vabs(Vec a) {
  for (int i = 0; i < 8; ++i) a.v[i] = __builtin_fabs(a.v[i]);
  return a;
}
constexpr int kTileRows = 1, kTileVecs = 1;

#include "linalg/dd_kernels.inl"
#include "linalg/mode_kernels.inl"

#undef TP_TARGET
#undef TP_INLINE
#undef TP_MEMBER

constexpr DDKernels kKernels{"portable", matvec, matvec_transposed, product, accumulate, mode_apply, largest};

}  // namespace portable

#if defined(__x86_64__)

namespace avx2 {

#define TP_TARGET __attribute__((target("avx2,fma")))
#define TP_INLINE static inline __attribute__((always_inline, target("avx2,fma")))
#define TP_MEMBER __attribute__((always_inline, target("avx2,fma"))) inline

// Copied word by word: GCC 12 copies a pair as one piece of memory, in parts for which the loads then wait.
struct Vec {
  __m256d a, b;
  Vec() = default;
  TP_MEMBER Vec(__m256d x, __m256d y) : a(x), b(y) {}
  TP_MEMBER Vec(const Vec& o) : a(o.a), b(o.b) {}
  TP_MEMBER Vec& operator=(const Vec& o) {
    a = o.a;
    b = o.b;
    return *this;
  }
};

TP_INLINE Vec zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
TP_INLINE Vec broadcast(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
TP_INLINE Vec load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
TP_INLINE void store(double* p, Vec x) {
  _mm256_storeu_pd(p, x.a);
  _mm256_storeu_pd(p + 4, x.b);
}
TP_INLINE Vec add(Vec x, Vec y) { return {_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b)}; }
TP_INLINE Vec sub(Vec x, Vec y) { return {_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b)}; }
TP_INLINE Vec mul(Vec x, Vec y) { return {_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b)}; }
TP_INLINE Vec mul_error(Vec x, Vec y, Vec p) {
  return {_mm256_fmsub_pd(x.a, y.a, p.a), _mm256_fmsub_pd(x.b, y.b, p.b)};
}
TP_INLINE Vec mul_add(Vec x, Vec y, Vec z) {
  return {_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)};
}
TP_INLINE Vec vmax(Vec x, Vec y) { return {_mm256_max_pd(x.a, y.a), _mm256_max_pd(x.b, y.b)}; }
TP_INLINE Vec vabs(Vec x) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  return {_mm256_andnot_pd(sign, x.a), _mm256_andnot_pd(sign, x.b)};
}
constexpr int kTileRows = 2, kTileVecs = 1;

#include "linalg/dd_kernels.inl"
#include "linalg/mode_kernels.inl"

#undef TP_TARGET
#undef TP_INLINE
#undef TP_MEMBER

constexpr DDKernels kKernels{"avx2", matvec, matvec_transposed, product, accumulate, mode_apply, largest};

}  // namespace avx2

// The masked forms: GCC 12 warns of the undefined vector in the others.
namespace avx512 {

struct Vec {
  __m512d a;
};

#define TP_TARGET __attribute__((target("avx512f")))
#define TP_INLINE static inline __attribute__((always_inline, target("avx512f")))
#define TP_MEMBER __attribute__((always_inline, target("avx512f"))) inline

TP_INLINE Vec zero() { return {_mm512_setzero_pd()}; }
TP_INLINE Vec broadcast(double x) { return {_mm512_set1_pd(x)}; }
TP_INLINE Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
TP_INLINE void store(double* p, Vec x) { _mm512_storeu_pd(p, x.a); }
TP_INLINE Vec add(Vec x, Vec y) { return {_mm512_add_pd(x.a, y.a)}; }
TP_INLINE Vec sub(Vec x, Vec y) { return {_mm512_sub_pd(x.a, y.a)}; }
TP_INLINE Vec mul(Vec x, Vec y) { return {_mm512_mul_pd(x.a, y.a)}; }
TP_INLINE Vec mul_error(Vec x, Vec y, Vec p) { return {_mm512_fmsub_pd(x.a, y.a, p.a)}; }
TP_INLINE Vec mul_add(Vec x, Vec y, Vec z) { return {_mm512_fmadd_pd(x.a, y.a, z.a)}; }
TP_INLINE Vec vmax(Vec x, Vec y) { return {_mm512_maskz_max_pd(0xff, x.a, y.a)}; }
TP_INLINE Vec vabs(Vec x) { return {_mm512_abs_pd(x.a)}; }
constexpr int kTileRows = 4, kTileVecs = 2;

#include "linalg/dd_kernels.inl"
#include "linalg/mode_kernels.inl"

#undef TP_TARGET
#undef TP_INLINE
#undef TP_MEMBER

constexpr DDKernels kKernels{"avx512", matvec, matvec_transposed, product, accumulate, mode_apply, largest};

}  // namespace avx512

#endif

const std::vector<const DDKernels*>& dd_kernel_variants() {
  // Never destroyed: threads of other static objects may still compute at exit.
  static const auto& variants = *new std::vector<const DDKernels*>([] {
    std::vector<const DDKernels*> list{&portable::kKernels};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list.push_back(&avx2::kKernels);
    if (__builtin_cpu_supports("avx512f")) list.push_back(&avx512::kKernels);
#endif
    return list;
  }());
  return variants;
}

const DDKernels& dd_kernels() {
  static const DDKernels& best = *dd_kernel_variants().back();
  return best;
}

}  // namespace tinyphys
