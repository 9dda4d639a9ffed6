// What a row of the benchmark is, and what measuring it gives. The rows themselves are in rows_*.cpp, the
// goals in goals.cpp, the machinery in measure.cpp and report.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tinyphys::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Makes the compiler believe that the value is read, so that work for it cannot be dropped.
template <class T> void consume(const T& value) { asm volatile("" : : "r"(&value) : "memory"); }

// Thrown by a row whose result is not what it must be. A wrong row misses its goal, whatever its time.
class Wrong : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Does the work `repeat` times and returns the seconds that it took. What it leaves out of the clock (making
// input, freeing results) is not part of the work.
using Timed = std::function<double(long repeat)>;

// The whole call is the work.
template <class F> Timed timed(F f) {
  return [f = std::move(f)](long repeat) mutable {
    const auto start = Clock::now();
    for (long i = 0; i < repeat; ++i) f();
    return seconds_since(start);
  };
}

// How often a row is measured. Samples of work and reference alternate, so that both see the same machine.
// Sampling ends at max_samples, or after min_samples once the medians are settled to 0.5 % or budget_s is
// used up.
struct Sampling {
  long warm_up = 1;
  long min_samples = 7;
  long max_samples = 101;
  double budget_s = 2.0;
  // A sample repeats short work until it takes this long; 0: each sample is one pass, as cold starts must be.
  double min_sample_s = 10e-3;
};

// One row, made ready to be measured.
struct Bench {
  Timed work;
  Timed reference = nullptr;
  Sampling sampling = {};
  double units = 1;  // times are given per unit: the work divided by this, as in seconds a node
  // Called when the samples are taken: facts worth a line. May throw Wrong.
  std::function<std::string()> finish = nullptr;
};

struct Row {
  std::string_view name;            // what --filter sees, and the key to the goals
  std::string_view work;            // in words
  std::int64_t n = 0;               // problem size, as the words say
  std::string_view reference = {};  // in words; empty: there is none
  // Makes the input and checks the answer once. May throw Wrong or tp::Error.
  std::function<Bench()> set_up;
};

// A stated goal. At least one of the limits is set; all that are must hold.
struct Goal {
  std::string_view row;
  std::string_view words;
  double max_seconds = std::numeric_limits<double>::infinity();
  double min_ratio = 0;  // of reference_s / median_s
};

std::span<const Goal> goals();
// Null: the row is for information.
const Goal* find_goal(std::string_view row);

struct Summary {
  double median = std::numeric_limits<double>::quiet_NaN();
  double spread = std::numeric_limits<double>::quiet_NaN();  // median distance from the median
  double fastest = std::numeric_limits<double>::quiet_NaN();
  long samples = 0;
};
Summary summarize(std::vector<double> samples);

enum class Status : std::uint8_t { kOk, kWrong, kError };

struct Result {
  const Row* row = nullptr;
  Status status = Status::kOk;
  Summary work, reference;
  double ratio = std::numeric_limits<double>::quiet_NaN();  // reference.median / work.median
  const Goal* goal = nullptr;
  std::string note;  // what finish() said, or what went wrong

  // What --enforce asks: the answer is right, and the goal, if there is one, is met.
  bool holds() const;
};

// Never throws: errors become the result's status.
Result measure(const Row& row);

// --- the rows, one function a file ---

void add_evolve_rows(std::vector<Row>& rows);
void add_fft_rows(std::vector<Row>& rows);
void add_gradient_rows(std::vector<Row>& rows);
void add_kernel_rows(std::vector<Row>& rows);
void add_loop_rows(std::vector<Row>& rows);
void add_native_rows(std::vector<Row>& rows);
void add_opencl_rows(std::vector<Row>& rows);
void add_orbit_rows(std::vector<Row>& rows);
void add_overhead_rows(std::vector<Row>& rows);
void add_splitting_rows(std::vector<Row>& rows);
void add_cache_rows(std::vector<Row>& rows);

// --- children: work that must start in a fresh process ---

// A child is this program started with the hidden option --child NAME. It prints lines "key value", as
// numbers.
struct Child {
  std::string_view name;
  void (*run)(Clock::time_point main_start);
};
std::span<const Child> children();
void dense_child(Clock::time_point main_start);
void first_kernel_child(Clock::time_point main_start);

}  // namespace tinyphys::bench
