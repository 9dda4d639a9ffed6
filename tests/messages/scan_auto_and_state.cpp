// expect: scan: step's parameters are auto and its carry is a structure: write their types, as in [](Index i, State s, Tensor row)
#include <tinyphys/tinyphys.hpp>
using tinyphys::State;
auto r = tinyphys::scan([](auto i, auto s) { return State{s.q + i, s.p}; }, State{0.0, 1.0}, 3);
