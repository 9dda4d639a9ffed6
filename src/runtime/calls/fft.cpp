// FFT, RFFT and IRFFT of real values with a trailing axis of 2 (real, imaginary), by the library of transforms.
#include "linalg/fft.hpp"

#include "schedule/call.hpp"

namespace tinyphys {
namespace {

bool takes(const Node*, bool) { return true; }

template <class R> void run_as(const CallArguments& call) {
  using Complex = std::complex<R>;
  const Node* n = call.node;
  const HostRead in(*call.inputs[0]);
  const HostWrite out(call.output);
  const auto axes = n->arg().subspan(kFirstFftAxis);
  switch (n->op) {
    case Op::FFT:
      return fft_axes<R>(n->shape().first(n->n_dim - 1), axes,
                         n->arg(0) == kForwardFft ? FftDirection::kForward : FftDirection::kInverse,
                         in.as<Complex>(), out.as<Complex>());
    case Op::RFFT: return fft_axes_real<R>(n->src(0)->shape(), axes, in.as<R>(), out.as<Complex>());
    default: return fft_axes_real_inverse<R>(n->shape(), axes, in.as<Complex>(), out.as<R>());
  }
}

void run(const CallArguments& call) {
  return call.node->dtype == DType::kFloat32 ? run_as<float>(call) : run_as<double>(call);
}

[[maybe_unused]] const bool added = add_call({"fft", Op::FFT, takes, run}) &&
                                    add_call({"rfft", Op::RFFT, takes, run}) &&
                                    add_call({"irfft", Op::IRFFT, takes, run});

}  // namespace
}  // namespace tinyphys
