#include "engine/run.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "linalg/dense.hpp"
#include "propagate/jump.hpp"
#include "support/cost_model.hpp"
#include "support/debug.hpp"
#include "support/thread_pool.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

using Clock = std::chrono::steady_clock;
double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// Steps of a scan kernel between two reports of progress are chosen to last about this long.
constexpr double kProgressSeconds = 0.1;

std::int64_t integer(const Argument& a) { return a.data ? *a.data.as<std::int64_t>() : a.scalar; }

// An argument as the bits of a number: itself, or the one element of a value.
std::int64_t number_bits(DType d, const Argument& a) {
  if (!a.data) return a.scalar;
  switch (d) {
    case DType::kFloat64: return bits(*a.data.as<double>());
    case DType::kFloat32: return bits(static_cast<double>(*a.data.as<float>()));
    case DType::kInt64: return *a.data.as<std::int64_t>();
    case DType::kInt32: return *a.data.as<std::int32_t>();
    default: return *a.data.as<unsigned char>() != 0;
  }
}

void write_number(DType d, std::int64_t number, char* to) {
  auto put = [&](auto v) { std::memcpy(to, &v, sizeof v); };
  switch (d) {
    case DType::kFloat64: return put(number);
    case DType::kFloat32: return put(static_cast<float>(from_bits(number)));
    case DType::kInt64: return put(number);
    case DType::kInt32: return put(static_cast<std::int32_t>(number));
    default: return put(static_cast<unsigned char>(number != 0));
  }
}

// Element by element along the last axis, or as one piece where the step there is 1.
void copy_slice(const Node* n, const char* from, char* to) {
  const std::size_t rank = n->n_dim, item = item_size(n->dtype);
  const auto extent = n->src(0)->shape(), shape = n->shape();
  std::vector<std::int64_t> stride(
      rank);  // of the source, in bytes, from one element of the slice to the next
  auto bytes = static_cast<std::int64_t>(item);
  for (std::size_t d = rank; d-- > 0; bytes *= extent[d]) {
    from += n->arg(3 * d) * bytes;
    stride[d] = n->arg(3 * d + 2) * bytes;
  }
  const std::int64_t last = rank == 0 ? 1 : shape[rank - 1];
  const bool together = rank == 0 || n->arg(3 * rank - 1) == 1;
  std::vector<std::int64_t> at(rank, 0);
  for (std::int64_t row = n->size() / last; row-- > 0;) {
    const char* p = from;
    for (std::size_t d = 0; d + 1 < rank; ++d) p += at[d] * stride[d];
    if (together) {
      std::memcpy(to, p, static_cast<std::size_t>(last) * item);
      to += static_cast<std::size_t>(last) * item;
    } else {
      for (std::int64_t k = 0; k < last; ++k, to += item) std::memcpy(to, p + k * stride[rank - 1], item);
    }
    for (std::size_t d = rank < 1 ? 0 : rank - 1; d-- > 0;) {
      if (++at[d] < shape[d]) break;
      at[d] = 0;
    }
  }
}

// Predicted seconds of the loop alternative of a PROPAGATE.
double loop_seconds(const Node* loop, std::int64_t steps, const ScheduleOptions& options) {
  double t = 0;
  for (Node* n : toposort(loop->src())) {
    if (n->op != Op::SCAN) continue;
    const bool kernel = options.fits_kernel && options.fits_kernel(n);
    t += estimate_seconds(n->src(0)) + (kernel ? cost_model().scan_step_s : cost_model().loop_pass_s);
  }
  return t * static_cast<double>(steps);
}

}  // namespace

struct ReadyPlan::State {
  std::vector<std::shared_ptr<Executable>> kernels;  // per step
  std::vector<std::unique_ptr<ReadyPlan>> inner;     // per step: body of a loop, alternative of a jump
  std::vector<StorageRef> slots, spares;             // spares: the other half of a double buffer
  std::vector<std::int64_t> scalars;
  std::vector<std::shared_ptr<const Notes>> notes;  // per slot
  std::vector<void*> outputs;
  std::vector<const void*> inputs;
  std::vector<std::int64_t> numbers;
};

ReadyPlan::ReadyPlan(std::shared_ptr<const Plan> plan)
    : plan_(std::move(plan)), state_(std::make_unique<State>()) {
  state_->kernels.resize(plan_->steps.size());
  state_->inner.resize(plan_->steps.size());
  state_->scalars.resize(plan_->scalars.size());
  release();
}
ReadyPlan::~ReadyPlan() = default;

void ReadyPlan::release() {
  state_->slots.assign(plan_->slots.size(), {});
  state_->spares.assign(plan_->slots.size(), {});
  for (auto& r : state_->inner)
    if (r) r->release();
}

std::shared_ptr<const Notes> ReadyPlan::notes(std::size_t i) const {
  return state_->notes[static_cast<std::size_t>(plan_->results[i])];
}

Argument ReadyPlan::argument(const Operand& o) const {
  if (o.index < 0) return {};
  if (o.scalar) return {{}, state_->scalars[static_cast<std::size_t>(o.index)]};
  return {state_->slots[static_cast<std::size_t>(o.index)], 0};
}
const void* ReadyPlan::data(const Operand& o) const {
  if (o.index < 0 || o.scalar) return nullptr;
  return state_->slots[static_cast<std::size_t>(o.index)]->data;
}

// A buffer to write slot i to: the last one when nobody else holds it, else the one before it. Carries of a loop
// come to be double-buffered by that.
StorageRef ReadyPlan::output(int i) {
  const auto k = static_cast<std::size_t>(i);
  StorageRef& current = state_->slots[k];
  StorageRef& spare = state_->spares[k];
  auto is_free = [](const StorageRef& s) { return s && s->refs.load(std::memory_order_acquire) == 1; };
  if (!is_free(current)) {
    StorageRef held = std::move(current);
    current = is_free(spare) ? std::move(spare) : allocate(plan_->slots[k].dtype, plan_->slots[k].shape);
    spare = std::move(held);
  }
  return current;
}

void ReadyPlan::compile(Device& device) {
  for (std::size_t i = 0; i < plan_->steps.size(); ++i)
    if (plan_->steps[i].kind == PlanOp::kKernel && !state_->kernels[i])
      state_->kernels[i] = executable(device, plan_->steps[i].code);
}

std::vector<StorageRef> ReadyPlan::run(std::span<const Argument> arguments, RunContext& context) {
  state_->notes.assign(plan_->slots.size(), nullptr);
  for (std::size_t i = 0; i < plan_->params.size(); ++i) {
    const Operand& p = plan_->params[i];
    if (p.index < 0) continue;
    if (p.scalar)
      state_->scalars[static_cast<std::size_t>(p.index)] =
          number_bits(plan_->scalars[static_cast<std::size_t>(p.index)].dtype, arguments[i]);
    else
      state_->slots[static_cast<std::size_t>(p.index)] = arguments[i].data;
  }
  for (std::size_t i = 0; i < plan_->steps.size(); ++i) {
    switch (plan_->steps[i].kind) {
      case PlanOp::kKernel:
      case PlanOp::kHost: run_kernel(i, context); break;
      case PlanOp::kMatmul: run_matmul(i); break;
      case PlanOp::kCopy: run_copy(i); break;
      case PlanOp::kLoop: run_loop(i, context); break;
      case PlanOp::kPropagate: run_propagate(i, context); break;
      case PlanOp::kCheck: run_check(i); break;
    }
  }
  std::vector<StorageRef> results;
  for (int r : plan_->results) results.push_back(state_->slots[static_cast<std::size_t>(r)]);
  for (const Operand& p : plan_->params)
    if (p.index >= 0 && !p.scalar) state_->slots[static_cast<std::size_t>(p.index)] = {};
  return results;
}

void ReadyPlan::run_kernel(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  State& s = *state_;
  bool empty = true;
  s.outputs.clear();
  for (int o : step.outputs) {
    s.outputs.push_back(output(o)->data);
    empty &= plan_->slots[static_cast<std::size_t>(o)].bytes() == 0;
  }
  if (empty) return;
  Device& device = step.kind == PlanOp::kHost ? tinyphys::device("interp") : context.device;
  if (!s.kernels[i]) s.kernels[i] = executable(device, step.code);
  s.inputs.clear();
  s.numbers.clear();
  for (const Operand& o : step.inputs) {
    s.inputs.push_back(data(o));
    s.numbers.push_back(o.scalar && o.index >= 0 ? s.scalars[static_cast<std::size_t>(o.index)] : 0);
  }
  if (step.scan_kernel && context.progress) return run_in_pieces(i, context);
  device.launch(*s.kernels[i], s.outputs, s.inputs, s.numbers);
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
  bool divisible = true;
  for (std::size_t c = 0; c < scan.n_carry; ++c)
    divisible &= output_of[c] >= 0 && scan.carry()[c]->op == Op::PARAM;
  // Two carries may enter by one param and leave apart: the pieces after the first need params of their own.
  for (std::size_t c = 0; divisible && c < scan.n_carry; ++c)
    divisible = std::count(scan.node->src().begin() + 1, scan.node->src().end(), scan.carry()[c]) == 1 &&
                !step.inputs[static_cast<std::size_t>(scan.carry()[c]->arg(0))].scalar;
  if (!divisible || steps < 2) {
    context.device.launch(*s.kernels[i], s.outputs, s.inputs, s.numbers);
    context.progress(steps, steps);
    return;
  }
  std::vector<std::vector<char>> between(scan.n_carry);
  std::int64_t done = 0, piece = std::max<std::int64_t>(1, std::min<std::int64_t>(steps / 100, 1000));
  while (done < steps) {
    const std::int64_t last = std::min(steps, done + piece);
    const auto begin = Clock::now();
    context.device.launch(*s.kernels[i], s.outputs, s.inputs, s.numbers, StepRange{done, last});
    const double took = seconds(Clock::now() - begin);
    for (std::size_t c = 0; c < scan.n_carry; ++c) {
      const auto o = static_cast<std::size_t>(output_of[c]);
      const std::size_t bytes = plan_->slots[static_cast<std::size_t>(step.outputs[o])].bytes();
      between[c].assign(static_cast<char*>(s.outputs[o]), static_cast<char*>(s.outputs[o]) + bytes);
      s.inputs[static_cast<std::size_t>(scan.carry()[c]->arg(0))] = between[c].data();
    }
    const double rate = static_cast<double>(last - done) / std::max(took, 1e-9);
    done = last;
    piece = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::min(rate * kProgressSeconds, 1e15)));
    context.progress(done, steps);
  }
}

void ReadyPlan::run_matmul(std::size_t i) {
  const PlanStep& step = plan_->steps[i];
  const Node* n = step.code.get();
  const auto shape = n->shape();
  const std::size_t r = shape.size();
  const std::int64_t rows = shape[r - 2], cols = shape[r - 1], inner = n->src(0)->shape().back();
  std::int64_t batch = 1;
  for (std::size_t d = 0; d + 2 < r; ++d) batch *= shape[d];
  const auto* a = static_cast<const double*>(data(step.inputs[0]));
  const auto* b = static_cast<const double*>(data(step.inputs[1]));
  auto* c = output(step.outputs[0]).as<double>();
  const ParallelFor pool = [](long count, const std::function<void(long)>& f) {
    thread_pool().parallel_for(count, [&](long k) { f(k); });
  };
  if (inner == 0) {
    std::fill_n(c, batch * rows * cols, 0.0);
    return;
  }
  for (std::int64_t k = 0; k < batch; ++k)
    gemm(rows, cols, inner, a + k * rows * inner, inner, false, b + k * inner * cols, cols, false,
         c + k * rows * cols, cols, false, pool);
}

void ReadyPlan::run_copy(std::size_t i) {
  const PlanStep& step = plan_->steps[i];
  const Node* n = step.code.get();
  auto* to = output(step.outputs[0]).as<char>();
  if (n->size() == 0) return;
  if (n->op == Op::SLICE) return copy_slice(n, static_cast<const char*>(data(step.inputs[0])), to);
  // CAT: row after row of every part, where a row is what lies together in both.
  std::int64_t rows = 1;
  for (std::int64_t d = 0; d < n->arg(0); ++d) rows *= n->shape()[static_cast<std::size_t>(d)];
  const auto row_bytes = [&](const Node* x) {
    return static_cast<std::size_t>(x->size() / rows) * item_size(n->dtype);
  };
  std::size_t offset = 0;
  for (std::size_t k = 0; k < step.inputs.size(); ++k) {
    const std::size_t bytes = row_bytes(n->src(k));
    const Operand& from = step.inputs[k];
    if (from.scalar)
      write_number(n->dtype, state_->scalars[static_cast<std::size_t>(from.index)], to + offset);
    else if (bytes != 0)
      for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r)
        std::memcpy(to + r * row_bytes(n) + offset, static_cast<const char*>(data(from)) + r * bytes, bytes);
    offset += bytes;
  }
}

void ReadyPlan::run_loop(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  State& s = *state_;
  if (!s.inner[i]) s.inner[i] = std::make_unique<ReadyPlan>(step.body);
  ReadyPlan& body = *s.inner[i];
  const std::int64_t steps = integer(argument(step.inputs[0]));
  const std::size_t first_x = 1 + step.n_carry, first_captured = first_x + step.n_xs;

  // The body's params: index, carry..., slices of xs..., captured...
  std::vector<Argument> arguments(body.plan().params.size());
  for (std::size_t k = 1; k < step.inputs.size(); ++k) {
    if (k >= first_x && k < first_captured) continue;
    arguments[k] = argument(step.inputs[k]);
  }
  const auto slot_bytes = [&](std::size_t k) {
    return plan_->slots[static_cast<std::size_t>(step.inputs[k].index)].bytes() /
           static_cast<std::size_t>(std::max<std::int64_t>(steps, 1));
  };
  std::vector<StorageRef> stacked(step.n_out);
  for (std::size_t o = 0; o < step.n_out; ++o)
    if (step.outputs[step.n_carry + o] >= 0) stacked[o] = output(step.outputs[step.n_carry + o]);
  RunContext inside{context.device, context.schedule, {}};
  const auto begin = Clock::now();
  auto last_report = begin;
  for (std::int64_t n = 0; n < steps; ++n) {
    arguments[0].data = StorageRef::allocate(sizeof(std::int64_t));
    *arguments[0].data.as<std::int64_t>() = n;
    for (std::size_t x = first_x; x < first_captured; ++x) {
      const std::size_t bytes = slot_bytes(x);
      arguments[x].data = StorageRef::allocate(bytes);
      std::memcpy(arguments[x].data->data,
                  static_cast<const char*>(data(step.inputs[x])) + static_cast<std::size_t>(n) * bytes,
                  bytes);
    }
    std::vector<StorageRef> results = body.run(arguments, inside);
    for (std::size_t c = 0; c < step.n_carry; ++c) arguments[1 + c].data = std::move(results[c]);
    for (std::size_t o = 0; o < step.n_out; ++o)
      if (stacked[o]) {
        const StorageRef& row = results[step.n_carry + o];
        const std::size_t bytes =
            body.plan().slots[static_cast<std::size_t>(body.plan().results[step.n_carry + o])].bytes();
        std::memcpy(stacked[o].as<char>() + static_cast<std::size_t>(n) * bytes, row->data, bytes);
        if (step.has_until && *results.back().as<unsigned char>())  // the rows of the steps left out are 0
          std::memset(stacked[o].as<char>() + static_cast<std::size_t>(n + 1) * bytes, 0,
                      static_cast<std::size_t>(steps - n - 1) * bytes);
      }
    if (step.has_until && *results.back().as<unsigned char>()) break;
    if (context.progress)
      if (const auto now = Clock::now(); seconds(now - last_report) > kProgressSeconds || n + 1 == steps) {
        last_report = now;
        context.progress(n + 1, steps);
      }
  }
  for (std::size_t c = 0; c < step.n_carry; ++c)
    if (step.outputs[c] >= 0) s.slots[static_cast<std::size_t>(step.outputs[c])] = arguments[1 + c].data;
  body.release();
}

void ReadyPlan::run_propagate(std::size_t i, RunContext& context) {
  const PlanStep& step = plan_->steps[i];
  const PropagateView view(step.code.get());
  std::vector<Argument> arguments;
  for (const Operand& o : step.inputs) arguments.push_back(argument(o));
  const std::int64_t steps = integer(arguments[0]);
  std::vector<HostValue> given;
  for (std::size_t k = 1; k < arguments.size(); ++k) {
    const Argument& a = arguments[k];
    given.push_back({a.data ? a.data->data : nullptr, a.data ? a.data->bytes : 0, a.scalar});
  }
  const std::span<const HostValue> all(given);
  std::vector<StorageRef> values;
  std::vector<double*> out;
  for (Node* s : view.state()) {
    values.push_back(allocate(s->dtype, s->shape()));
    out.push_back(values.back().as<double>());
  }
  const double compile = state_->inner[i] ? 0 : cost_model().kernel_compile_s;
  const auto notes = try_jump(step.code.get(), steps, all.first(view.n_state), all.subspan(view.n_state), out,
                              compile + loop_seconds(view.loop(), steps, context.schedule));
  if (!notes->jumped) {
    if (!view.has_loop()) {
      std::string why;
      for (const std::string& r : notes->refused) why += "; " + r;
      throw Error(
          "evolve",
          "the jump cannot be made, and " + std::string(name(view.integrator())) + " has no loop" + why, "",
          0);
    }
    ReadyPlan& loop = alternative(i, context);
    values = loop.run(arguments, context);
    loop.release();
  }
  if (debug_enabled(1)) {
    const std::string what = notes->jumped            ? "jump, " + notes->structure
                             : notes->refused.empty() ? "loop"
                                                      : "loop, " + notes->refused.back();
    debug_print(1, "physics", std::to_string(steps) + " steps: " + what);
  }
  for (std::size_t k = 0; k < step.outputs.size(); ++k)
    if (step.outputs[k] >= 0) {
      state_->slots[static_cast<std::size_t>(step.outputs[k])] = values[k];
      state_->notes[static_cast<std::size_t>(step.outputs[k])] = notes;
    }
}

// Scheduled and compiled when it is first taken. Its params are the sources of the PROPAGATE, scalars as buffers.
ReadyPlan& ReadyPlan::alternative(std::size_t i, RunContext& context) {
  auto& ready = state_->inner[i];
  if (!ready)
    ready = std::make_unique<ReadyPlan>(
        schedule(PropagateView(plan_->steps[i].code.get()).loop(), context.schedule));
  return *ready;
}

void ReadyPlan::run_check(std::size_t i) {
  const PlanStep& step = plan_->steps[i];
  const std::int64_t scalar = number_bits(step.code->src(1)->dtype, argument(step.inputs[1]));
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
      case CheckKind::kStepFinite: {
        const double h = from_bits(number_bits(DType::kFloat64, argument(step.inputs[0])));
        throw Error("evolve", "dt is " + std::to_string(h) + ", it must be finite", file, line);
      }
    }
  }
  state_->slots[static_cast<std::size_t>(step.outputs[0])] = argument(step.inputs[0]).data;
}

}  // namespace tinyphys
