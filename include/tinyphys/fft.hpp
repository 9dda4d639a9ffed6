// Discrete Fourier transforms, by NumPy's names and conventions (numpy.fft).
//
//   fft   X[k] = sum_j x[j] exp(-2 pi i j k / n)          ifft   x[j] = 1/n sum_k X[k] exp(+2 pi i j k / n)
//
// over any axes and of any length, prime ones too, with any other axes as a batch. float32 gives complex64, and so does
// complex64; everything else gives complex128: a real operand is promoted to complex, integers and bools to float64. The
// scaling is a product of its own and joins the work around it in one kernel. Transforms are linear and known to
// be: derivatives, batches and scans go through them. Work is shared among threads, with the same bits for any number of
// them. FFTW does it (Frigo and Johnson, Proc. IEEE 93, 216 (2005)); errors grow like the square root of the logarithm of
// n, some 1e-16 of the largest value in float64. A build without FFTW throws tp::Error where a transform is run.
//
// All throw tp::Error for an axis that is out of range or given twice, for a length below 1 (that of an empty axis
// too, where none is asked for), and for a norm that is none.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tinyphys/tensor.hpp"

namespace tinyphys {

// Which direction is scaled, n being the number of points of the transform: Backward the inverse one by 1/n; Ortho both by
// 1/sqrt(n), which makes them unitary; Forward the forward one by 1/n.
enum class FftNorm : std::uint8_t { Backward, Ortho, Forward };

// Of transforms along one axis.
struct FftOptions {
  // Points along the axis: more than there are is padding with zeros at the end, less is cropping. Of irfft: of the result. Not
  // given: as many as there are; of irfft 2 (m - 1), m being those of its operand.
  std::optional<std::int64_t> n = {};
  std::int64_t axis = -1;  // negative: from the end
  FftNorm norm = FftNorm::Backward;
};

// Of transforms along several axes.
struct FftnOptions {
  // Points along each of the axes, as n above; of irfftn the last is that of the result.
  std::optional<std::vector<std::int64_t>> s = {};
  // Not given: all, or the last ones where s says how many. rfftn halves the last of the list, irfftn takes it to be half.
  std::optional<std::vector<std::int64_t>> axes = {};
  FftNorm norm = FftNorm::Backward;
};

// [..., n, ...] to [..., n, ...], complex.
Tensor fft(const Arg& x, const FftOptions& options = {});
Tensor ifft(const Arg& x, const FftOptions& options = {});
Tensor fftn(const Arg& x, const FftnOptions& options = {});
Tensor ifftn(const Arg& x, const FftnOptions& options = {});

// Of a real operand the half of the spectrum that says all: [..., n, ...] to [..., n / 2 + 1, ...], complex; the rest is its
// complex conjugate, X[n - k] = conj(X[k]). Throws for a complex operand.
Tensor rfft(const Arg& x, const FftOptions& options = {});
Tensor rfftn(const Arg& x, const FftnOptions& options = {});
// The inverse: [..., m, ...] to [..., n, ...], real. Say n where it is odd. The imaginary parts at 0 and (n even) at n / 2, which
// no real spectrum has, are not read; irfftn takes its other axes first.
Tensor irfft(const Arg& x, const FftOptions& options = {});
Tensor irfftn(const Arg& x, const FftnOptions& options = {});

// The frequencies of what fft gives, in cycles per unit of the spacing d: 0, 1, ..., n/2 - 1, -n/2, ..., -1 over n d; of an odd n
// the positive ones end at (n - 1) / 2. Wave numbers are 2 pi times them. float64 [n]. Throws for n < 1, and d 0 or not finite.
Tensor fftfreq(std::int64_t n, double d = 1.0, Where where = Where::current());
// Those of what rfft gives of n points: 0, 1, ..., n / 2 over n d. float64 [n / 2 + 1].
Tensor rfftfreq(std::int64_t n, double d = 1.0, Where where = Where::current());

// Frequency 0 to the middle, element n / 2 of each of the axes (without a list: of all); ifftshift undoes it, also where n
// is odd. Any dtype.
Tensor fftshift(const Arg& x, const Axes& axes = {});
Tensor ifftshift(const Arg& x, const Axes& axes = {});

}  // namespace tinyphys
