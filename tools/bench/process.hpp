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
  double last_output = 0;   // until it last wrote to stdout
  std::string output, errors;
};

// A new folder, removed with all that programs left in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Runs a program in a folder, with its output caught. Throws std::runtime_error when it cannot be started,
// ends with another code than 0, or dies by a signal; the message holds the last line of its stderr.
ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& folder);

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
