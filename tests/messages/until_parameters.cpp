// expect: .until: a lambda with the types of its parameters written out
#include <tinyphys/tinyphys.hpp>
using tinyphys::Tensor;
auto r = tinyphys::scan([](Tensor x) { return x; }, 0.0, 3, {.until = [](auto x) { return x > 1.0; }});
