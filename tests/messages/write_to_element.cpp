// expect: for x[i] = v write x = set(x, i, v)
#include <tinyphys/tinyphys.hpp>
void f(tinyphys::Tensor x) { x[0] = 1.0; }
