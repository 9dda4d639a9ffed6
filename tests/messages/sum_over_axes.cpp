// expect: KeepDims
#include <tinyphys/tinyphys.hpp>
using tinyphys::Tensor;
Tensor f(const Tensor& x) { return x.sum(0, 1); }
