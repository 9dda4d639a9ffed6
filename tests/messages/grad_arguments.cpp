// expect: the function cannot be called with tensors in place of these arguments
#include <tinyphys/tinyphys.hpp>
auto g = tinyphys::grad([](double x) { return x * x; })(tinyphys::Tensor(1.0));
