// expect: a list of numbers becomes a Tensor by Tensor::from
#include <tinyphys/tinyphys.hpp>
auto x = tinyphys::scan([](tinyphys::Tensor y) { return y; }, std::vector<double>{1.0, 2.0}, 3);
