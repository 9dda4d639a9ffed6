#pragma once

#include <string>

namespace tinyphys::bench {

struct Machine {
  std::string cpu;       // as the kernel names it, with family and model: virtual machines hide the name
  int cpus = 1;          // that this process may use
  int threads = 1;       // that a computation uses (TINYPHYS_THREADS)
  std::string device;    // where tensors live (TINYPHYS_DEVICE)
  std::string compiler;  // that built the references
  double load = 0;       // running tasks over the last minute, at the start
};

Machine this_machine();

}  // namespace tinyphys::bench
