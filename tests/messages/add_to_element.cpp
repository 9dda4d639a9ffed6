// expect: for x[i] += v write x = set(x, i, x[i] + v)
#include <tinyphys/tinyphys.hpp>
void f(tinyphys::Tensor x) { x[1] += 5.0; }
