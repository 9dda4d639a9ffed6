// How the gradient through a loop gets at the states of its steps, which it needs from the last to the first.
#pragma once

#include <cstdint>

namespace tinyphys {

//   Auto         a tape of all states where that is small (TINYPHYS_TAPE, 16 MiB), else checkpoints: some states are kept, and
//                the steps between two of them are taken anew (Griewank and Walther 2000; docs/gradients.md). Both give the
//                same bits. Memory is below a bound that does not depend on the number of steps. With Method::Auto a step that
//                can be inverted goes as Float does where a tape does not fit.
//   Tape         the tape, whatever its size: memory grows with the steps
//   Checkpoints  checkpoints, also where a tape would fit
//   Float        where a step is a sequence of shears, x += f(the others) for one part of the state after the other, which
//                the compiler finds: no state is kept, each step is undone by x -= f. The states differ from those of the
//                tape by rounding, which is measured where the way back ends: a start that is recovered no better than to
//                1e-10 makes the gradient go over checkpoints, as a step that is no sequence of shears does; explain() says so.
//                Memory does not depend on the number of steps.
//   Exact        the loop itself is another one: its state is kept in int64 fixed point, and each increment is rounded to it,
//                so that taking it away again gives the same bits (JANUS: Rein and Tamayo 2018). Needs a range, and a step that
//                is a sequence of shears, else it throws. A value that leaves its range is an error that names the step, and so
//                is a start that is not recovered bit for bit. Memory does not depend on the number of steps. jvp, hessian and
//                gradients of gradients are errors.
// A loop that is replaced by one jump needs none of these (docs/lift.md); Exact is not replaced.
enum class Reversible : std::int64_t { Auto, Tape, Checkpoints, Float, Exact };

// The largest absolute value that coordinates and momenta may take in fixed point. Their unit is 2^-61 of it, rounded up to a
// power of 2: ranges that are not too wide lose nothing against float64.
struct StateRange {
  double q = 0, p = 0;
};

}  // namespace tinyphys
