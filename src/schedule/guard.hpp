// What a Guard of the plan decides between, at each run, from values.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "propagate/propagator.hpp"
#include "support/records.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct ScheduleOptions;

struct GuardInputs {
  std::span<const HostValue> values;  // one per input of the step
  std::int64_t integer(std::size_t i) const;
};

// What came of trying an alternative.
struct Attempt {
  bool taken = false;                       // the outputs are written
  std::shared_ptr<const Notes> notes = {};  // for explain()
  std::string said = {};                    // in a few words, for TINYPHYS_DEBUG
  std::string refused = {};                 // the error, where nothing else can make the outputs
  // Where a program goes on from here: how far what it gets is off, relative to each element and to the largest beside it; and
  // what is told how far that lets its outputs be off, and says whether they may be taken.
  double of_each = 0, of_largest = 0;
  std::function<bool(double)> judge = {};
};

// One way to make the outputs: a program of its own, or a function, or a function and a program that makes the outputs of
// what that gives. A function is tried before the programs after it.
struct Alternative {
  std::string name;
  // LAMBDA over the inputs of the step (and what the function gives), always right; scheduled when first taken.
  UOp program = {};
  // The shapes of what the function gives to the program, in place of the outputs: float64, the last params of that.
  std::vector<Dims> between = {};
  // Predicted seconds of the program, without its compilation.
  std::function<double(const GuardInputs&)> estimate = {};
  double compile_s = 0;  // and of that
  // Makes the outputs where it predicts to need no more than budget_s, and where its checks hold.
  std::function<Attempt(const GuardInputs&, std::span<void* const> outputs, double budget_s)> attempt = {};
};

// Those of a PROPAGATE or PROPAGATE_VJP: the jump, and the loop where there is one.
std::vector<Alternative> alternatives_of(const Node* propagate, const ScheduleOptions& options);

}  // namespace tinyphys
