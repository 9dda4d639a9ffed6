// Running other programs, and this one again, and timing them from outside.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench.hpp"

namespace tinyphys::bench {

struct ProcessResult {
  Clock::time_point start;  // just before the process was made
  double seconds = 0;       // until its output was closed and it had ended
  std::string output, errors;
};

// Runs a program with its output caught, in a fresh temporary folder that is removed afterwards, so that what it
// writes there stays nowhere. Throws std::runtime_error when it cannot be started, ends with another code than 0, or
// dies by a signal; the message holds the last line of its stderr.
ProcessResult run_process(const std::vector<std::string>& arguments);

// This executable, and the root of the build tree that it lies in (build/<preset>).
std::string own_path();
std::string build_folder();

struct ChildResult {
  std::map<std::string, double> values;
  double start_up = 0;  // seconds from making the process to its main()
  // Throws std::runtime_error when the child did not print this key.
  double operator[](const std::string& key) const;
};

ChildResult run_child(const std::string& name);

// What a child prints first; run_child takes start_up from it.
void print_value(const std::string& key, double value);
void print_main_start(Clock::time_point main_start);

}  // namespace tinyphys::bench
