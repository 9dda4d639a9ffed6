// expect: a list of numbers: write Tensor::from({...})
#include <tinyphys/tinyphys.hpp>
tinyphys::Tensor x = {1.0, 2.0};
