// expect: scan: step must return its carry, or {carry, out}; it returns nothing
#include <tinyphys/tinyphys.hpp>
using tinyphys::Tensor;
auto r = tinyphys::scan([](Tensor x) { x + 1.0; }, 0.0, 3);
