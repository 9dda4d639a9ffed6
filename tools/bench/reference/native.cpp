#include "reference/native.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#ifdef __AVX__
#include <immintrin.h>
#endif

namespace tinyphys::bench::native {
namespace {

#ifdef __AVX512F__
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
template <class T> constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));
// One register.
template <class T> struct VectorOf { typedef T type __attribute__((vector_size(kBytes))); };
template <class T> using Vector = typename VectorOf<T>::type;

template <class T> Vector<T> load(const T* p) {
  Vector<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T> Vector<T> all(T x) { return x - Vector<T>{}; }
template <class T> T total(const Vector<T>& v) {
  T s = 0;
  for (int i = 0; i < kLanes<T>; ++i) s += v[i];
  return s;
}

// 1 / x^(3/2).
#ifdef __AVX512F__
Vector<double> inverse_cube_root(const Vector<double>& x) {
  // 14 bits, and a series in what is left: y (1 + e/2 + 3/8 e^2 + 5/16 e^3), e = 1 - x y^2.
  const Vector<double> y = (Vector<double>)_mm512_rsqrt14_pd((__m512d)x), e = 1 - x * y * y;
  const Vector<double> r = y + y * e * (0.5 + e * (0.375 + e * 0.3125));
  return r * r * r;
}
Vector<float> inverse_cube_root(const Vector<float>& x) {
  const Vector<float> y = (Vector<float>)_mm512_rsqrt14_ps((__m512)x), e = 1 - x * y * y;
  const Vector<float> r = y + y * e * (0.5f + e * 0.375f);
  return r * r * r;
}
#elif defined(__AVX__)
Vector<double> inverse_cube_root(const Vector<double>& x) {
  return 1 / (x * (Vector<double>)_mm256_sqrt_pd((__m256d)x));
}
Vector<float> inverse_cube_root(const Vector<float>& x) {
  const Vector<float> y = (Vector<float>)_mm256_rsqrt_ps((__m256)x), e = 1 - x * y * y;
  const Vector<float> r = y + y * e * (0.5f + e * 0.375f);
  return r * r * r;
}
#else
template <class V> V inverse_cube_root(const V& x) {
  V r;
  for (unsigned l = 0; l < sizeof(V) / sizeof(x[0]); ++l) r[l] = 1 / (x[l] * std::sqrt(x[l]));
  return r;
}
#endif

// f(begin, end) over [0, n), by blocks of a multiple of `step`, on so many threads.
void on_threads(long n, long step, int threads, const std::function<void(long, long, int)>& f) {
  const long size = ((n + threads - 1) / threads + step - 1) / step * step;
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t)
    others.emplace_back([=, &f] { f(std::min(n, t * size), std::min(n, (t + 1) * size), t); });
  f(0, std::min(n, size), 0);
  for (std::thread& t : others) t.join();
}

template <class T> void gravity_of(const T* x, const T* m, T* a, long n, T e2, int threads) {
  constexpr int kTile = 2;  // bodies that share the loads of the others
  on_threads(n, kTile, threads, [=](long begin, long end, int) {
    for (long i = begin; i < end; i += kTile) {
      Vector<T> own[kTile][3], sum[kTile][3];
      for (int k = 0; k < kTile; ++k)
        for (int d = 0; d < 3; ++d) {
          own[k][d] = all(x[d * n + std::min(i + k, n - 1)]);
          sum[k][d] = Vector<T>{};
        }
      long j = 0;
      for (; j + kLanes<T> <= n; j += kLanes<T>) {
        const Vector<T> other[3] = {load(x + j), load(x + n + j), load(x + 2 * n + j)}, mass = load(m + j);
        for (int k = 0; k < kTile; ++k) {
          const Vector<T> dx = other[0] - own[k][0], dy = other[1] - own[k][1], dz = other[2] - own[k][2];
          const Vector<T> r2 = dx * dx + dy * dy + dz * dz + e2;
          const Vector<T> w = mass * inverse_cube_root(r2);
          sum[k][0] += dx * w;
          sum[k][1] += dy * w;
          sum[k][2] += dz * w;
        }
      }
      for (int k = 0; k < kTile && i + k < end; ++k)
        for (int d = 0; d < 3; ++d) {
          T s = total<T>(sum[k][d]);
          for (long l = j; l < n; ++l) {
            T r2 = e2;
            for (int c = 0; c < 3; ++c)
              r2 += (x[c * n + l] - x[c * n + i + k]) * (x[c * n + l] - x[c * n + i + k]);
            s += m[l] * (x[d * n + l] - x[d * n + i + k]) / (r2 * std::sqrt(r2));
          }
          a[d * n + i + k] = s;
        }
    }
  });
}

}  // namespace

double wave(const double* x, double* y, long n, int threads) {
  std::vector<double> sums(static_cast<std::size_t>(threads), 0.0);
  on_threads(n, 64, threads, [&](long begin, long end, int t) {
    double sum = 0;
    if (y)
      for (long i = begin; i < end; ++i) {
        y[i] = std::sin(x[i]) * std::exp(-x[i] * x[i]) + x[i] / 2;
        sum += y[i];
      }
    else
      for (long i = begin; i < end; ++i) sum += std::sin(x[i]) * std::exp(-x[i] * x[i]) + x[i] / 2;
    sums[static_cast<std::size_t>(t)] = sum;
  });
  double all_of_them = 0;
  for (const double s : sums) all_of_them += s;
  return all_of_them;
}

void triad(double a, const double* x, const double* y, double* z, long n, int threads) {
  on_threads(n, 64, threads, [=](long begin, long end, int) {
    long i = begin;
#if defined(__AVX__)
    constexpr int kL = kLanes<double>;
    for (; i < end && reinterpret_cast<std::size_t>(z + i) % kBytes != 0; ++i) z[i] = a * x[i] + y[i];
    for (; i + kL <= end; i += kL) {
      const Vector<double> v = a * load(x + i) + load(y + i);
#ifdef __AVX512F__
      _mm512_stream_pd(z + i, reinterpret_cast<const __m512d&>(v));
#else
      _mm256_stream_pd(z + i, reinterpret_cast<const __m256d&>(v));
#endif
    }
#endif
    for (; i < end; ++i) z[i] = a * x[i] + y[i];
  });
}

void gravity(const double* x, const double* m, double* a, long n, double e2, int threads) {
  gravity_of(x, m, a, n, e2, threads);
}
void gravity(const float* x, const float* m, float* a, long n, float e2, int threads) {
  gravity_of(x, m, a, n, e2, threads);
}

void henon_heiles(double* s, long n, double h, long steps, int threads) {
  constexpr int kSide = 3, kBlock = kSide * kLanes<double>;  // vectors side by side
  on_threads(n, kBlock, threads, [=](long begin, long end, int) {
    for (long b = begin; b < end; b += kBlock) {
      const long here = std::min<long>(kBlock, end - b);
      double state[4][kBlock] = {};
      for (int c = 0; c < 4; ++c)
        for (long i = 0; i < here; ++i) state[c][i] = s[c * n + b + i];
      Vector<double> x[kSide], y[kSide], px[kSide], py[kSide];
      for (int k = 0; k < kSide; ++k) {
        x[k] = load(state[0] + k * kLanes<double>);
        y[k] = load(state[1] + k * kLanes<double>);
        px[k] = load(state[2] + k * kLanes<double>);
        py[k] = load(state[3] + k * kLanes<double>);
      }
      const double half = h / 2;
      for (long step = 0; step < steps; ++step)
        for (int k = 0; k < kSide; ++k) {
          px[k] -= half * (x[k] + 2 * x[k] * y[k]);
          py[k] -= half * (y[k] + x[k] * x[k] - y[k] * y[k]);
          x[k] += h * px[k];
          y[k] += h * py[k];
          px[k] -= half * (x[k] + 2 * x[k] * y[k]);
          py[k] -= half * (y[k] + x[k] * x[k] - y[k] * y[k]);
        }
      for (int k = 0; k < kSide; ++k) {
        std::memcpy(state[0] + k * kLanes<double>, &x[k], sizeof x[k]);
        std::memcpy(state[1] + k * kLanes<double>, &y[k], sizeof y[k]);
        std::memcpy(state[2] + k * kLanes<double>, &px[k], sizeof px[k]);
        std::memcpy(state[3] + k * kLanes<double>, &py[k], sizeof py[k]);
      }
      for (int c = 0; c < 4; ++c)
        for (long i = 0; i < here; ++i) s[c * n + b + i] = state[c][i];
    }
  });
}

void ten_operations(const double* x, double* y, long n) {
  for (long i = 0; i < n; ++i) {
    const double a = x[i] * 1.5 + 0.25, b = a * a - x[i];
    y[i] = (b * 0.5 + a) * (b - 2.0) - x[i] * a;
  }
}

}  // namespace tinyphys::bench::native
