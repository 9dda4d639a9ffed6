// expect: scan: step must take ([Index,] carry..., a Tensor for each of .xs); a tuple carry is separate arguments
#include <tinyphys/tinyphys.hpp>
using tinyphys::Tensor;
auto r = tinyphys::scan([](std::tuple<Tensor, Tensor> z) { return z; }, std::tuple{0.0, 1.0}, 3);
