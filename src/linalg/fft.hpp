// Discrete Fourier transforms of doubles on the CPU, in NumPy's conventions.
//
// Forward: X[k] = sum_j x[j] exp(-2 pi i j k / n), not scaled; inverse: with exp(+...), scaled by 1 / n (n:
// all points of the transform). Arrays are row-major and contiguous, `batch` transforms one after another.
// FFTW does the work, with plans from ESTIMATE or from wisdom that was loaded, so that a result does not
// depend on timings. Built without FFTW (TINYPHYS_FFTW=OFF), every call throws tp::Error.
#pragma once

#include <complex>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

namespace tinyphys {

enum class FftDirection { kForward, kInverse };

bool fft_available();

// shape: 1 to 3 axes, all transformed. in == out is allowed.
void fft(std::span<const std::int64_t> shape, FftDirection direction, const std::complex<double>* in,
         std::complex<double>* out, std::int64_t batch = 1);
// Real input of `shape`; the result keeps n / 2 + 1 values along the last axis.
void fft_real(std::span<const std::int64_t> shape, const double* in, std::complex<double>* out,
              std::int64_t batch = 1);
// The inverse of fft_real; `shape` is that of the real result.
void fft_real_inverse(std::span<const std::int64_t> shape, const std::complex<double>* in, double* out,
                      std::int64_t batch = 1);

// Transforms of real data by the ends that each axis has, in tensor products:
//   kPeriodic  cos and sin of 2 pi j k / n, FFTW's halfcomplex: k and n - k hold the two of one wave number
//   kFixed     sin of pi (j + 1) (k + 1) / (n + 1): odd about -1 and n (DST-I)
//   kFree      cos of pi (j + 1/2) k / n: even about -1/2 and n - 1/2 (DCT-II)
// Forward is not scaled, inverse undoes it. in == out is allowed.
enum class End { kPeriodic, kFixed, kFree };
void transform_by_ends(std::span<const std::int64_t> shape, std::span<const End> ends, FftDirection direction,
                       const double* in, double* out);

// Over any of the axes of a row-major array, not scaled: what the ops FFT, RFFT and IRFFT mean (uop/ops.hpp). `axes` are
// distinct and of at least one point; of the real ones the last is the one that is halved, and `shape` is that of the real
// array. Axis after axis, in blocks of lines whose partition depends on the shape alone: FFTW runs at one thread within
// our own, and the same numbers come out of any number of them. in == out is not allowed. R: double, float.
template <class R>
void fft_axes(std::span<const std::int64_t> shape, std::span<const std::int64_t> axes, FftDirection direction,
              const std::complex<R>* in, std::complex<R>* out);
template <class R>
void fft_axes_real(std::span<const std::int64_t> shape, std::span<const std::int64_t> axes, const R* in,
                   std::complex<R>* out);
template <class R>
void fft_axes_real_inverse(std::span<const std::int64_t> shape, std::span<const std::int64_t> axes,
                           const std::complex<R>* in, R* out);

// Held while FFTW makes a plan or is given wisdom: its planner is for one thread at a time.
std::mutex& fft_planner_mutex();

// Plans measured earlier, as FFTW writes them. load: false when there is no such file or it is not
// understood.
bool load_fft_wisdom(const std::string& path);
bool save_fft_wisdom(const std::string& path);

}  // namespace tinyphys
