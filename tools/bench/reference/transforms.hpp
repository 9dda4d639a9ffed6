// FFTW by itself, as a program that knows it writes: one plan of all axes, aligned memory, FFTW_ESTIMATE.
#pragma once

#include <memory>
#include <span>
#include <vector>

namespace tinyphys::bench {

class PlainTransform {
 public:
  // Complex to complex over the last axes of an array, `batch` of them one after another, of doubles; real: half of the
  // spectrum of real data.
  PlainTransform(const std::vector<int>& shape, int batch, bool real, std::span<const double> input);
  ~PlainTransform();
  void run();
  std::span<const double> result() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tinyphys::bench
