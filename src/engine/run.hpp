// Running plans: kernels on the device, loops with double-buffered carries, guards.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/canonical.hpp"
#include "runtime/device.hpp"
#include "schedule/plan.hpp"
#include "support/records.hpp"

namespace tinyphys {

// Called now and then while a long loop runs: steps done, steps in all.
using StepProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// Of each step that ran, those of the bodies of loops too: how often, and for how long in all.
struct StepTime {
  std::int64_t runs = 0;
  double seconds = 0;
};
using StepTimes = std::unordered_map<const PlanStep*, StepTime>;

struct RunContext {
  Device& device;
  ScheduleOptions schedule;
  StepProgress progress;
  StepTimes* times = nullptr;  // where they are wanted; the device is then waited for after each step
};

// A plan with its loaded kernels and, while it runs, its memory. Not for several threads at once.
class ReadyPlan {
 public:
  // keeps: runs again and again, as the body of a loop: memory stays for the next run until release(), and only what a run
  // hands on for good is allocated anew. Otherwise memory goes when nothing in the plan needs it any more.
  explicit ReadyPlan(std::shared_ptr<const Plan> plan, bool keeps = false);
  ~ReadyPlan();

  const Plan& plan() const { return *plan_; }
  // Results in the order of the program's outputs, for the caller to take; a result may share the storage of an argument.
  std::vector<StorageRef>& run(std::span<const Argument> arguments, RunContext& context);
  // What the Guard that made result i has to tell; null where none did. Of the last run.
  std::shared_ptr<const Notes> notes(std::size_t i) const;
  void release();
  // Compiles every kernel of the plan itself, and runs nothing.
  void compile(Device& device);

 private:
  struct State;
  void run_kernel(std::size_t i, RunContext& context);
  void run_in_pieces(std::size_t i, RunContext& context);
  void run_call(std::size_t i, RunContext& context);
  void run_loop(std::size_t i, RunContext& context);
  void run_guard(std::size_t i, RunContext& context);
  std::vector<double> largest_of(std::span<const int> slots) const;
  void run_program(std::size_t i, std::size_t alternative, std::vector<Argument>& arguments,
                   RunContext& context);
  void run_check(std::size_t i);
  void note_check(const PlanStep& step, std::int64_t scalar);
  void read_inputs(const PlanStep& step);
  void pass_on_notes(const PlanStep& step);
  void let_go_after(std::size_t i);
  StorageRef& slot(int i) const;
  Argument argument(const Operand& o) const;
  const Storage* data(const Operand& o) const;
  const Storage* output(int slot, const RunContext& context, int overwritten = -1);

  std::shared_ptr<const Plan> plan_;
  bool keeps_;
  std::unique_ptr<State> state_;
};

}  // namespace tinyphys
