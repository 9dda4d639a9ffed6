// The constants of the cost model, measured here.
#pragma once

namespace tinyphys::bench {

// Measures all of them on one thread (a minute) and prints them as a row for src/support/cost_model.cpp, beside those in
// use.
void calibrate();

}  // namespace tinyphys::bench
