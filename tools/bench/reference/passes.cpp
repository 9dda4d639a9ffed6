#include "reference/passes.hpp"

#include <cstddef>
#include <fftw3.h>

namespace tinyphys::bench {

void pass_over(const std::vector<double>& q, const std::vector<double>& p, const std::vector<double>& k,
               std::vector<double>& out_q, std::vector<double>& out_p) {
  for (std::size_t i = 0; i < q.size(); ++i) {
    out_q[i] = q[i] + 1e-3 * k[i] * q[i];
    out_p[i] = p[i] + 1e-3 * k[i] * p[i];
  }
}

struct TransformPair::Impl {
  std::size_t n;
  double* values[2];
  fftw_complex* modes;
  fftw_plan forward[2], back[2];
};

TransformPair::TransformPair(int n) : impl_(new Impl) {
  const auto size = static_cast<std::size_t>(n);
  impl_->n = size;
  impl_->modes = fftw_alloc_complex(size * (size / 2 + 1));
  for (int i = 0; i < 2; ++i) {
    impl_->values[i] = fftw_alloc_real(size * size);
    impl_->forward[i] = fftw_plan_dft_r2c_2d(n, n, impl_->values[i], impl_->modes, FFTW_ESTIMATE);
    impl_->back[i] = fftw_plan_dft_c2r_2d(n, n, impl_->modes, impl_->values[i], FFTW_ESTIMATE);
    for (std::size_t k = 0; k < size * size; ++k) impl_->values[i][k] = 1e-3 * static_cast<double>(k % 1009);
  }
}
TransformPair::~TransformPair() {
  for (int i = 0; i < 2; ++i) {
    fftw_destroy_plan(impl_->forward[i]);
    fftw_destroy_plan(impl_->back[i]);
    fftw_free(impl_->values[i]);
  }
  fftw_free(impl_->modes);
}
void TransformPair::run() {
  const double scale = 1.0 / static_cast<double>(impl_->n * impl_->n);
  for (int i = 0; i < 2; ++i) {
    fftw_execute(impl_->forward[i]);
    fftw_execute(impl_->back[i]);
    for (std::size_t k = 0; k < impl_->n * impl_->n; ++k) impl_->values[i][k] *= scale;
  }
}

}  // namespace tinyphys::bench
