// Running plans: kernels on the device, loops with double-buffered carries, guards.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/canonical.hpp"
#include "runtime/device.hpp"
#include "schedule/plan.hpp"
#include "support/records.hpp"

namespace tinyphys {

// Called now and then while a long loop runs: steps done, steps in all.
using StepProgress = std::function<void(std::int64_t done, std::int64_t total)>;

struct RunContext {
  Device& device;
  ScheduleOptions schedule;
  StepProgress progress;
};

// A plan with its loaded kernels and, while a loop runs, its buffers. Not for several threads at once.
class ReadyPlan {
 public:
  explicit ReadyPlan(std::shared_ptr<const Plan> plan);
  ~ReadyPlan();

  const Plan& plan() const { return *plan_; }
  // Results in the order of the program's outputs; a result may share the storage of an argument. Buffers stay for
  // the next run until release().
  std::vector<StorageRef> run(std::span<const Argument> arguments, RunContext& context);
  // What the Guard that made result i has to tell; null where none did. Of the last run.
  std::shared_ptr<const Notes> notes(std::size_t i) const;
  void release();
  // Compiles every kernel of the plan itself, and runs nothing.
  void compile(Device& device);

 private:
  struct State;
  void run_kernel(std::size_t i, RunContext& context);
  void run_in_pieces(std::size_t i, RunContext& context);
  void run_matmul(std::size_t i);
  void run_copy(std::size_t i);
  void run_loop(std::size_t i, RunContext& context);
  void run_propagate(std::size_t i, RunContext& context);
  void run_check(std::size_t i);
  ReadyPlan& alternative(std::size_t i, RunContext& context);
  Argument argument(const Operand& o) const;
  const void* data(const Operand& o) const;
  StorageRef output(int slot);

  std::shared_ptr<const Plan> plan_;
  std::unique_ptr<State> state_;
};

}  // namespace tinyphys
