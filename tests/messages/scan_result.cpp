// expect: scan: step must return its carry, or {carry, out}
#include <tinyphys/tinyphys.hpp>
using tinyphys::Tensor;
auto r = tinyphys::scan([](Tensor x, Tensor y) { return std::tuple{x, y, y}; }, std::tuple{0.0, 1.0}, 3);
