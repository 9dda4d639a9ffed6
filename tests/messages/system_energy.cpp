// expect: System: H must take (q, p) or (q, p, t), each a Tensor, and return a Tensor
#include <tinyphys/tinyphys.hpp>
using tinyphys::Tensor;
tinyphys::System s([](const Tensor& q) { return q.sum(); });
