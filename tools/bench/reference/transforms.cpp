#include "reference/transforms.hpp"

#include <algorithm>
#include <cstddef>
#include <fftw3.h>

namespace tinyphys::bench {

struct PlainTransform::Impl {
  fftw_plan plan = nullptr;
  double* in = nullptr;
  double* out = nullptr;
  std::size_t size = 0;  // doubles that come out
};

PlainTransform::PlainTransform(const std::vector<int>& shape, int batch, bool real,
                               std::span<const double> input)
    : impl_(new Impl) {
  int points = 1;
  for (const int n : shape) points *= n;
  const int modes = real ? points / shape.back() * (shape.back() / 2 + 1) : points;
  impl_->size = 2 * static_cast<std::size_t>(modes) * static_cast<std::size_t>(batch);
  impl_->in = fftw_alloc_real(input.size());
  impl_->out = fftw_alloc_real(impl_->size);
  const auto rank = static_cast<int>(shape.size());
  auto* const out = reinterpret_cast<fftw_complex*>(impl_->out);
  impl_->plan =
      real ? fftw_plan_many_dft_r2c(rank, shape.data(), batch, impl_->in, nullptr, 1, points, out, nullptr, 1,
                                    modes, FFTW_ESTIMATE)
           : fftw_plan_many_dft(rank, shape.data(), batch, reinterpret_cast<fftw_complex*>(impl_->in),
                                nullptr, 1, points, out, nullptr, 1, points, FFTW_FORWARD, FFTW_ESTIMATE);
  std::copy(input.begin(), input.end(), impl_->in);
}
PlainTransform::~PlainTransform() {
  fftw_destroy_plan(impl_->plan);
  fftw_free(impl_->in);
  fftw_free(impl_->out);
}
void PlainTransform::run() { fftw_execute(impl_->plan); }
std::span<const double> PlainTransform::result() const { return {impl_->out, impl_->size}; }

}  // namespace tinyphys::bench
