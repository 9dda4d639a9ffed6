// What a jump cannot be faster than: a pass over its memory, and transforms of the same data.
#pragma once

#include <memory>
#include <vector>

namespace tinyphys::bench {

// out_q = q + c k q and out_p = p + c k p: the state and its springs read once, the state written.
void pass_over(const std::vector<double>& q, const std::vector<double>& p, const std::vector<double>& k,
               std::vector<double>& out_q, std::vector<double>& out_p);

// FFTW, real to complex and back (FFTW_ESTIMATE, one thread), of two n x n arrays.
class TransformPair {
 public:
  explicit TransformPair(int n);
  ~TransformPair();
  void run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tinyphys::bench
