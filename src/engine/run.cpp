#include "engine/run.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "passes/way_back_report.hpp"
#include "support/debug.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

using Clock = std::chrono::steady_clock;
double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// Steps of a scan kernel between two reports of progress are chosen to last about this long.
constexpr double kProgressSeconds = 0.1;

std::int64_t integer(const Argument& a) { return a.data ? *HostRead(*a.data).as<std::int64_t>() : a.scalar; }

// An argument as the bits of a number: itself, or the one element of a value.
std::int64_t number_bits(DType d, const Argument& a) {
  if (!a.data) return a.scalar;
  const HostRead value(*a.data);
  switch (d) {
    case DType::kFloat64: return bits(*value.as<double>());
    case DType::kFloat32: return bits(static_cast<double>(*value.as<float>()));
    case DType::kInt64: return *value.as<std::int64_t>();
    case DType::kInt32: return *value.as<std::int32_t>();
    default: return *value.as<unsigned char>() != 0;
  }
}

// Memory that is taken again and again; what was handed on is left to who has it. In a loop it comes to be two, and as
// many more as passes keep what one of them made.
struct Pool {
  std::vector<StorageRef> all;

  StorageRef take(DType dtype, std::span<const std::int64_t> shape, Memory& memory) {
    const std::size_t bytes = bytes_of(dtype, shape);
    for (const StorageRef& s : all)
      if (s->refs.load(std::memory_order_acquire) == 1 && s->bytes == bytes) {
        s->rewrite();
        return s;
      }
    all.push_back(allocate(dtype, shape, memory));
    return all.back();
  }
};

// Values of either sign, as large as these parts of those of `s` and of the largest.
void make_noise(const Storage& noise, const Storage& s, double of_each, double of_largest) {
  const HostRead from(s);
  const HostWrite to(noise);
  const std::span values(from.as<double>(), s.bytes / sizeof(double));
  double most = 0;
  for (const double x : values) most = std::max(most, std::fabs(x));
  std::uint64_t random = 1;
  for (std::size_t i = 0; i < values.size(); ++i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const double size = of_each * std::fabs(values[i]) + of_largest * most;
    to.as<double>()[i] = random >> 63 != 0 ? size : -size;
  }
}

// A value of a state in fixed point is too large for it.
[[noreturn]] void left_range(const Node* check, std::int64_t scalar, const char* file, unsigned line) {
  const std::int64_t n = check->arg(1), c = scalar % n;
  throw Error(
      "evolve",
      fmt::format("part {0} of the state{1} is outside its range [-{2}, {2}] of Reversible::Exact by step "
                  "{3}: declare a wider one",
                  c,
                  c == 0   ? " (q of an evolution)"
                  : c == 1 ? " (p of an evolution)"
                           : "",
                  from_bits(check->arg(2 + static_cast<std::size_t>(c))), with_commas(scalar / n)),
      file, line);
}

}  // namespace

struct ReadyPlan::State {
  std::vector<std::shared_ptr<Executable>> kernels;  // per step
  std::vector<std::vector<std::unique_ptr<ReadyPlan>>>
      inner;                      // per step: body of a loop, programs of a guard
  std::vector<StorageRef> slots;  // what is there now
  std::vector<Pool> buffers;      // of the memory plan
  std::vector<Pool> scratch;      // between the parts of a kernel
  std::vector<Pool> rows;         // of the body of a loop: the index, slices of xs
  std::vector<std::int64_t> scalars;
  std::vector<std::shared_ptr<const Notes>> notes;  // per slot
  std::vector<StorageRef> results;
  std::vector<const Storage*> outputs, between, inputs;
  std::vector<std::int64_t> numbers;
};

ReadyPlan::ReadyPlan(std::shared_ptr<const Plan> plan, bool keeps)
    : plan_(std::move(plan)), keeps_(keeps), state_(std::make_unique<State>()) {
  state_->kernels.resize(plan_->steps.size());
  state_->inner.resize(plan_->steps.size());
  state_->scalars.resize(plan_->scalars.size());
  state_->slots.resize(plan_->slots.size());
  state_->buffers.resize(plan_->buffers.size());
  state_->results.resize(plan_->results.size());
}
ReadyPlan::~ReadyPlan() = default;

void ReadyPlan::release() {
  State& s = *state_;
  s.slots.assign(plan_->slots.size(), {});
  s.results.assign(plan_->results.size(), {});
  for (Pool& p : s.buffers) p.all.clear();
  s.scratch.clear();
  s.rows.clear();
  for (auto& of_step : s.inner)
    for (auto& r : of_step)
      if (r) r->release();
}

std::shared_ptr<const Notes> ReadyPlan::notes(std::size_t i) const {
  return plan_->has_guard ? state_->notes[static_cast<std::size_t>(plan_->results[i])] : nullptr;
}

StorageRef& ReadyPlan::slot(int i) const { return state_->slots[static_cast<std::size_t>(i)]; }
Argument ReadyPlan::argument(const Operand& o) const {
  if (o.index < 0) return {};
  if (o.scalar) return {{}, state_->scalars[static_cast<std::size_t>(o.index)]};
  return {slot(o.index), 0};
}
const Storage* ReadyPlan::data(const Operand& o) const {
  if (o.index < 0 || o.scalar) return nullptr;
  return slot(o.index).get();
}

// Memory to write slot i to. `overwritten`: a slot that dies here, whose memory it may be when nobody else holds it.
const Storage* ReadyPlan::output(int i, const RunContext& context, int overwritten) {
  StorageRef& out = slot(i);
  const Slot& planned = plan_->slots[static_cast<std::size_t>(i)];
  Pool& pool = state_->buffers[static_cast<std::size_t>(planned.buffer)];
  if (overwritten >= 0) {
    StorageRef& old = slot(overwritten);
    const bool ours = std::any_of(pool.all.begin(), pool.all.end(),
                                  [&](const StorageRef& s) { return s.get() == old.get(); });
    if (ours && old->refs.load(std::memory_order_acquire) == 2) {  // the slot and the pool
      out = std::move(old);
      out->rewrite();
      return out.get();
    }
  }
  out = pool.take(planned.dtype, planned.shape, context.device.memory());
  return out.get();
}

// What nobody reads after step i goes: to be written again, or for good.
void ReadyPlan::let_go_after(std::size_t i) {
  const PlanStep& step = plan_->steps[i];
  for (int d : step.dead) slot(d) = {};
  if (keeps_) return;
  for (int b : step.idle) state_->buffers[static_cast<std::size_t>(b)].all.clear();
}

void ReadyPlan::compile(Device& device) {
  for (std::size_t i = 0; i < plan_->steps.size(); ++i)
    if (plan_->steps[i].kind == PlanOp::kKernel && !state_->kernels[i])
      state_->kernels[i] = executable(device, plan_->steps[i].code);
}

std::vector<StorageRef>& ReadyPlan::run(std::span<const Argument> arguments, RunContext& context) {
  State& s = *state_;
  if (plan_->has_guard) s.notes.assign(plan_->slots.size(), nullptr);
  for (std::size_t i = 0; i < plan_->params.size(); ++i) {
    const Operand& p = plan_->params[i];
    if (p.index < 0) continue;
    if (p.scalar)
      s.scalars[static_cast<std::size_t>(p.index)] =
          number_bits(plan_->scalars[static_cast<std::size_t>(p.index)].dtype, arguments[i]);
    else
      slot(p.index) = in_memory(arguments[i].data, context.device.memory());
  }
  for (std::size_t i = 0; i < plan_->steps.size(); ++i) {
    const auto start = context.times ? Clock::now() : Clock::time_point{};
    switch (plan_->steps[i].kind) {
      case PlanOp::kKernel:
      case PlanOp::kHost: run_kernel(i, context); break;
      case PlanOp::kCall: run_call(i, context); break;
      case PlanOp::kLoop: run_loop(i, context); break;
      case PlanOp::kGuard: run_guard(i, context); break;
      case PlanOp::kCheck: run_check(i); break;
    }
    if (context.times) {
      context.device.finish();
      StepTime& t = (*context.times)[&plan_->steps[i]];
      ++t.runs;
      t.seconds += seconds(Clock::now() - start);
    }
    let_go_after(i);
  }
  for (std::size_t i = 0; i < plan_->results.size(); ++i) s.results[i] = slot(plan_->results[i]);
  for (int r : plan_->results) slot(r) = {};
  for (const Operand& p : plan_->params)
    if (p.index >= 0 && !p.scalar) slot(p.index) = {};
  return s.results;
}

void ReadyPlan::run_kernel(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  State& s = *state_;
  read_inputs(step);
  s.outputs.clear();
  bool empty = true;
  for (int o : step.outputs) {
    s.outputs.push_back(output(o, context, s.outputs.empty() ? step.overwritten : -1));
    empty &= plan_->slots[static_cast<std::size_t>(o)].bytes() == 0;
  }
  if (plan_->has_guard && !step.scan_kernel) pass_on_notes(step);
  if (empty) return;
  Device& device = step.kind == PlanOp::kHost ? tinyphys::device("interp") : context.device;
  if (!s.kernels[i]) s.kernels[i] = executable(device, step.code);
  const std::span<const std::int64_t> scratch = s.kernels[i]->kernel().scratch;  // bytes
  s.between.clear();
  if (s.scratch.size() < scratch.size()) s.scratch.resize(scratch.size());
  for (std::size_t k = 0; k < scratch.size(); ++k)
    s.between.push_back(
        s.scratch[k].take(DType::kBool, scratch.subspan(k, 1), context.device.memory()).get());
  if (step.scan_kernel && context.progress) return run_in_pieces(i, context);
  device.launch(*s.kernels[i], {s.outputs, s.inputs, s.numbers, s.between});
}

// The substeps before and after a loop's body may lie around its jump: what they make of its outputs came from it, too.
void ReadyPlan::pass_on_notes(const PlanStep& step) {
  State& s = *state_;
  std::shared_ptr<const Notes> one;
  for (const Operand& o : step.inputs) {
    if (o.index < 0 || o.scalar) continue;
    const auto& of_input = s.notes[static_cast<std::size_t>(o.index)];
    if (!of_input) continue;
    if (one && one != of_input) return;
    one = of_input;
  }
  if (one)
    for (int o : step.outputs) s.notes[static_cast<std::size_t>(o)] = one;
}

void ReadyPlan::read_inputs(const PlanStep& step) {
  State& s = *state_;
  s.inputs.clear();
  s.numbers.clear();
  for (const Operand& o : step.inputs) {
    s.inputs.push_back(data(o));
    s.numbers.push_back(o.scalar && o.index >= 0 ? s.scalars[static_cast<std::size_t>(o.index)] : 0);
  }
}

// A scan kernel run piece by piece, so that progress can be told; the carries of one piece enter the next.
void ReadyPlan::run_in_pieces(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  State& s = *state_;
  const Node* scan_node = step.code->src(0)->src(0);
  const ScanView scan(scan_node);
  const Node* n = scan.steps();
  const std::int64_t steps =
      n->op == Op::CONST ? const_int(n) : integer(argument(step.inputs[static_cast<std::size_t>(n->arg(0))]));
  // Output that holds carry c, and the params that it enters by.
  std::vector<int> output_of(scan.n_carry, -1);
  for (std::size_t o = 0; o < step.code->n_src; ++o)
    if (const auto c = static_cast<std::size_t>(step.code->src(o)->arg(0)); c < scan.n_carry)
      output_of[c] = static_cast<int>(o);
  bool divisible = !scan.has_until;  // else the pieces after the last step would go on
  for (std::size_t c = 0; c < scan.n_carry; ++c)
    divisible &= output_of[c] >= 0 && scan.carry()[c]->op == Op::PARAM;
  // Two carries may enter by one param and leave apart: the pieces after the first need params of their own.
  for (std::size_t c = 0; divisible && c < scan.n_carry; ++c)
    divisible = std::count(scan.node->src().begin() + 1, scan.node->src().end(), scan.carry()[c]) == 1 &&
                !step.inputs[static_cast<std::size_t>(scan.carry()[c]->arg(0))].scalar;
  if (!divisible || steps < 2) {
    context.device.launch(*s.kernels[i], {s.outputs, s.inputs, s.numbers, s.between});
    context.device.finish();
    context.progress(steps, steps);
    return;
  }
  // The carry between two pieces.
  std::vector<StorageRef> carry;
  for (std::size_t c = 0; c < scan.n_carry; ++c) {
    const Node* n_c = scan.carry()[c];
    carry.push_back(allocate(n_c->dtype, n_c->shape(), context.device.memory()));
  }
  std::int64_t done = 0, piece = std::max<std::int64_t>(1, std::min<std::int64_t>(steps / 100, 1000));
  while (done < steps) {
    const std::int64_t last = std::min(steps, done + piece);
    const auto begin = Clock::now();
    context.device.launch(*s.kernels[i], {s.outputs, s.inputs, s.numbers, s.between, StepRange{done, last}});
    context.device.finish();
    const double took = seconds(Clock::now() - begin);
    for (std::size_t c = 0; c < scan.n_carry; ++c) {
      const auto o = static_cast<std::size_t>(output_of[c]);
      copy_bytes(*carry[c], 0, *s.outputs[o], 0, carry[c]->bytes);
      s.inputs[static_cast<std::size_t>(scan.carry()[c]->arg(0))] = carry[c].get();
    }
    const double rate = static_cast<double>(last - done) / std::max(took, 1e-9);
    done = last;
    piece = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::min(rate * kProgressSeconds, 1e15)));
    context.progress(done, steps);
  }
}

void ReadyPlan::run_call(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  read_inputs(step);
  const Storage* out = output(step.outputs[0], context);
  if (step.code->size() != 0) step.call->run({step.code.get(), *out, state_->inputs, state_->numbers});
}

void ReadyPlan::run_loop(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  auto& inner = state_->inner[i];
  if (inner.empty()) inner.push_back(std::make_unique<ReadyPlan>(step.body, true));
  ReadyPlan& body = *inner[0];
  const std::int64_t steps = integer(argument(step.inputs[0]));
  const std::size_t first_x = 1 + step.n_carry, first_captured = first_x + step.n_xs;

  // The body's params: index, carry..., slices of xs..., captured...
  std::vector<Argument> arguments(body.plan().params.size());
  for (std::size_t k = 1; k < step.inputs.size(); ++k) {
    if (k >= first_x && k < first_captured) continue;
    arguments[k] = argument(step.inputs[k]);
  }
  std::vector<const Storage*> stacked(step.n_out, nullptr);
  for (std::size_t o = 0; o < step.n_out; ++o)
    if (const int to = step.outputs[step.n_carry + o]; to >= 0) stacked[o] = output(to, context);
  std::vector<Pool>& rows = body.state_->rows;
  rows.resize(1 + step.n_xs);
  Memory& memory = context.device.memory();
  RunContext inside{context.device, context.schedule, {}, context.times};
  auto last_report = Clock::now();
  for (std::int64_t n = 0; n < steps; ++n) {
    arguments[0].data = {};  // to be written again
    arguments[0].data = rows[0].take(DType::kInt64, {}, memory);
    *HostWrite(*arguments[0].data).as<std::int64_t>() = n;
    for (std::size_t x = 0; x < step.n_xs; ++x) {
      const Slot& of = plan_->slots[static_cast<std::size_t>(step.inputs[first_x + x].index)];
      StorageRef& row = arguments[first_x + x].data;
      row = {};
      row = rows[1 + x].take(of.dtype, std::span(of.shape).subspan(1), memory);
      copy_bytes(*row, 0, *data(step.inputs[first_x + x]), static_cast<std::size_t>(n) * row->bytes,
                 row->bytes);
    }
    std::vector<StorageRef>& results = body.run(arguments, inside);
    const bool ends = step.has_until && *HostRead(*results.back()).as<unsigned char>();
    for (std::size_t c = 0; c < step.n_carry; ++c) arguments[1 + c].data = std::move(results[c]);
    for (std::size_t o = 0; o < step.n_out; ++o)
      if (stacked[o]) {
        const StorageRef& row = results[step.n_carry + o];
        const std::size_t bytes =
            body.plan().slots[static_cast<std::size_t>(body.plan().results[step.n_carry + o])].bytes();
        copy_bytes(*stacked[o], static_cast<std::size_t>(n) * bytes, *row, 0, bytes);
        if (ends)  // the rows of the steps left out are 0
          std::memset(
              HostWrite(*stacked[o], MapFor::kUpdate).as<char>() + static_cast<std::size_t>(n + 1) * bytes, 0,
              static_cast<std::size_t>(steps - n - 1) * bytes);
      }
    for (StorageRef& r : results) r = {};
    if (ends) break;
    if (context.progress)
      if (const auto now = Clock::now(); seconds(now - last_report) > kProgressSeconds || n + 1 == steps) {
        last_report = now;
        context.progress(n + 1, steps);
      }
  }
  for (std::size_t c = 0; c < step.n_carry; ++c)
    if (step.outputs[c] >= 0) slot(step.outputs[c]) = std::move(arguments[1 + c].data);
  if (steps > 0 && plan_->has_guard && body.plan().has_guard)  // what its last step has to say
    for (std::size_t o = 0; o < step.outputs.size(); ++o)
      if (step.outputs[o] >= 0) state_->notes[static_cast<std::size_t>(step.outputs[o])] = body.notes(o);
  if (!keeps_) body.release();
}

// The largest absolute values in these slots, float64.
std::vector<double> ReadyPlan::largest_of(std::span<const int> slots) const {
  std::vector<double> out;
  for (const int s : slots) {
    const HostRead map(*slot(s));
    const std::span values(map.as<double>(), slot(s)->bytes / sizeof(double));
    double most = 0;
    for (const double x : values) most = std::fabs(x) <= most ? most : std::fabs(x);
    out.push_back(most);
  }
  return out;
}

// The outputs of step i, a guard, by the program of this alternative.
void ReadyPlan::run_program(std::size_t i, std::size_t alternative, std::vector<Argument>& arguments,
                            RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  std::unique_ptr<ReadyPlan>& program = state_->inner[i][alternative];
  if (!program)
    program = std::make_unique<ReadyPlan>(
        schedule(step.alternatives[alternative].program.get(), context.schedule), keeps_);
  std::vector<StorageRef>& results = program->run(arguments, context);
  for (std::size_t k = 0; k < step.outputs.size(); ++k) slot(step.outputs[k]) = std::move(results[k]);
  if (!keeps_) program->release();
}

void ReadyPlan::run_guard(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  auto& programs = state_->inner[i];
  programs.resize(step.alternatives.size());
  std::vector<Argument> arguments;
  std::vector<HostRead> maps;
  std::vector<HostValue> values;
  for (const Operand& o : step.inputs) {
    arguments.push_back(argument(o));
    if (const Storage* s = data(o)) maps.emplace_back(*s);
    values.push_back({data(o) ? maps.back().data() : nullptr, data(o) ? data(o)->bytes : 0,
                      arguments.back().scalar, data(o)});
  }
  const GuardInputs inputs{values};
  Attempt last;
  for (std::size_t a = 0; a < step.alternatives.size(); ++a) {
    const Alternative& way = step.alternatives[a];
    if (way.attempt) {
      double budget = std::numeric_limits<double>::infinity();  // what the programs after it would take
      for (std::size_t b = a + 1; b < step.alternatives.size(); ++b)
        if (const Alternative& other = step.alternatives[b]; other.program)
          budget = std::min(budget, (programs[b] ? 0 : other.compile_s) + other.estimate(inputs));
      std::vector<StorageRef> between;
      {
        std::vector<HostWrite> out;
        std::vector<void*> outputs;
        for (const Dims& shape : way.between) {
          between.push_back(allocate(DType::kFloat64, shape, context.device.memory()));
          outputs.push_back(out.emplace_back(*between.back()).data());
        }
        if (!way.program)
          for (int o : step.outputs) outputs.push_back(out.emplace_back(*output(o, context)).data());
        last = way.attempt(inputs, outputs, budget);
      }
      if (last.taken && way.program) {
        std::vector<Argument> all = arguments;
        for (const StorageRef& b : between) all.push_back({b, 0});
        run_program(i, a, all, context);
        if (last.judge) {
          const std::vector<double> sizes = largest_of(step.outputs);
          // An output may be one of these values itself: they stay.
          for (std::size_t k = 0; k < between.size(); ++k) {
            StorageRef noise = allocate(DType::kFloat64, way.between[k], context.device.memory());
            make_noise(*noise, *between[k], last.of_each, last.of_largest);
            all[arguments.size() + k] = {std::move(noise), 0};
          }
          std::vector<StorageRef> kept;
          for (int o : step.outputs) kept.push_back(slot(o));
          run_program(i, a, all, context);
          const std::vector<double> off = largest_of(step.outputs);
          double worst = 0;
          for (std::size_t k = 0; k < off.size(); ++k) {
            const double relative = off[k] == 0 ? 0 : off[k] / sizes[k];
            if (!(relative <= worst)) worst = relative;  // NaN stays
          }
          last.taken = last.judge(worst);
          for (std::size_t k = 0; k < kept.size(); ++k) slot(step.outputs[k]) = std::move(kept[k]);
        }
        if (last.taken) maps.clear();
      }
      if (!last.taken) {
        for (int o : step.outputs) {
          slot(o) = {};
          if (!keeps_)
            state_->buffers[static_cast<std::size_t>(plan_->slots[static_cast<std::size_t>(o)].buffer)]
                .all.clear();
        }
        continue;
      }
    } else {
      maps.clear();
      run_program(i, a, arguments, context);
    }
    if (debug_enabled(1, "physics")) debug_print(1, "physics", last.said);
    for (int o : step.outputs) state_->notes[static_cast<std::size_t>(o)] = last.notes;
    return;
  }
  throw Error("evolve", last.refused, "", 0);
}

namespace {

// `members`: of an ensemble, else 0; then `at` is the step and the member.
std::string warp_failure(WarpFailure what, std::int64_t at, std::int64_t members) {
  const std::string step =
      members > 0 ? " at step " + with_commas(at / members) + " of member " + with_commas(at % members)
                  : " at step " + with_commas(at);
  switch (what) {
    case WarpFailure::kPotential:
      return "TimeWarp needs U > 0 all along (H = T - U), which does not hold" + step +
             ": the potential is not below 0 there; give a g of your own";
    case WarpFailure::kKinetic:
      return "TimeWarp needs T - E0 > 0 all along (H = T - U; it is U on the motion), which does not hold" +
             step + "; take a smaller dt, or give a g of your own";
    case WarpFailure::kStep:
      return "TimeWarp needs a g above 0 and finite all along, which does not hold" + step +
             "; take another g or a smaller dt";
    case WarpFailure::kMidpoint:
      return "TimeWarp by g(q, p) solves the implicit midpoint rule by sweeps, which do not converge" + step +
             "; take a smaller dt";
  }
  return "?";
}

class ProjectionNotes final : public Notes {
 public:
  explicit ProjectionNotes(std::int64_t iterations) : iterations_(iterations) {}
  void report(Records& to) const override {
    to.push_back({Finding::kFound,
                  fmt::format("{} Newton iterations in all", with_commas(iterations_)),
                  "",
                  {{"iterations", iterations_}}});
  }

 private:
  std::int64_t iterations_;
};

}  // namespace

void ReadyPlan::run_check(std::size_t i) {
  const PlanStep& step = plan_->steps[i];
  const std::int64_t scalar = number_bits(step.code->src(1)->dtype, argument(step.inputs[1]));
  if (static_cast<CheckKind>(step.code->arg(0)) == CheckKind::kProjected && !state_->notes.empty()) {
    const auto notes = std::make_shared<const ProjectionNotes>(scalar);
    for (const int o : {step.inputs[0].index, step.outputs[0]})
      state_->notes[static_cast<std::size_t>(o)] = notes;
  }
  if (!check_passes(step.code.get(), scalar)) {
    const auto where = locations(step.code.get());
    const char* file = where.empty() ? "" : where.front().file.c_str();
    const unsigned line = where.empty() ? 0 : where.front().line;
    switch (static_cast<CheckKind>(step.code->arg(0))) {
      case CheckKind::kMidpointConverged:
        throw Error("evolve",
                    "ImplicitMidpoint did not converge: the step is too long for this H (h * omega must stay "
                    "well below 2 in a loop); take a smaller dt",
                    file, line);
      case CheckKind::kIndexInRange:
        index_out_of_range(static_cast<Op>(step.code->arg(2)), scalar, step.code->arg(1), step.code.get());
      case CheckKind::kMassUsable:
        throw Error("from_force", "an element of the mass is 0 or not finite", file, line);
      case CheckKind::kMetricUsable:
        throw Error("evolve", "conserve: an element of the metric is not above 0, or not finite", file, line);
      case CheckKind::kProjected: break;
      case CheckKind::kWarpDefined:
        throw Error("evolve",
                    warp_failure(static_cast<WarpFailure>(step.code->arg(1)), scalar,
                                 step.code->n_arg > 2 ? step.code->arg(2) : 0),
                    file, line);
      case CheckKind::kWarpForward:
        throw Error("evolve", "t_end is before the time of the state", file, line);
      case CheckKind::kWarpEnded:
        throw Error("evolve",
                    "TimeWarp: the steps given do not reach t_end: steps is the most that may be taken; take "
                    "more, or a larger dt",
                    file, line);
      case CheckKind::kStaysInRange: left_range(step.code.get(), scalar, file, line);
      case CheckKind::kStartRecovered:
        throw Error(
            "gradient",
            "the start that the steps taken back arrive at is not the recorded one, bit for bit: there is "
            "no gradient to be trusted (take Reversible::Checkpoints, and tell us)",
            file, line);
      case CheckKind::kHasNorm:
        throw Error("Schroedinger", "psi is 0 everywhere or not finite: it has no norm to divide by", file,
                    line);
      case CheckKind::kDecayResolved:
        throw Error(
            "evolve",
            "imaginary time takes nearly all of psi away within one series: its energies are far above the "
            "least of V, or psi is 0 or not finite; start from another psi, or give a spectrum whose least "
            "energy is nearer",
            file, line);
      case CheckKind::kSeriesHolds:
        throw Error(
            "chebyshev",
            "the series grew beyond what an operator within the bounds can make of it: the spectrum of the "
            "operator is not within centre +- radius, or it is not Hermitian, or psi is not finite",
            file, line);
      case CheckKind::kProjectionRests:
        throw Error(
            "evolve",
            "conserve: the iterations of a symmetric projection do not come to rest: the step is too long "
            "for this H, the gradients of two invariants nearly agree, or the state is not finite; take a "
            "smaller dt, or leave one of them away",
            file, line);
      case CheckKind::kStartMissed:
      case CheckKind::kAdjointGrew: break;  // pass
      case CheckKind::kStepFinite: {
        const double h = from_bits(number_bits(DType::kFloat64, argument(step.inputs[0])));
        throw Error("evolve", "dt is " + std::to_string(h) + ", it must be finite", file, line);
      }
    }
  }
  slot(step.outputs[0]) = slot(step.inputs[0].index);
  if (plan_->has_guard) note_check(step, scalar);
}

// What a CHECK that only tells has to tell, with what the value already has.
void ReadyPlan::note_check(const PlanStep& step, std::int64_t scalar) {
  auto& of_output = state_->notes[static_cast<std::size_t>(step.outputs[0])];
  of_output = state_->notes[static_cast<std::size_t>(step.inputs[0].index)];
  const auto kind = static_cast<CheckKind>(step.code->arg(0));
  if (kind != CheckKind::kStartMissed && kind != CheckKind::kAdjointGrew) return;
  // Values that are told of the same share one object: what is made of several of them is told of it too.
  for (const PlanStep* other = plan_->steps.data(); other != &step; ++other)
    if (other->kind == PlanOp::kCheck && other->code->arg(0) == step.code->arg(0) &&
        other->inputs[1].index == step.inputs[1].index &&
        state_->notes[static_cast<std::size_t>(other->inputs[0].index)] == of_output) {
      of_output = state_->notes[static_cast<std::size_t>(other->outputs[0])];
      return;
    }
  const auto* before = dynamic_cast<const WayBackNotes*>(of_output.get());
  auto notes = before ? std::make_shared<WayBackNotes>(*before) : std::make_shared<WayBackNotes>();
  (kind == CheckKind::kStartMissed ? notes->missed : notes->grew) = from_bits(scalar);
  of_output = notes;
}

}  // namespace tinyphys
