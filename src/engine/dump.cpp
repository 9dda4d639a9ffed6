#include "engine/dump.hpp"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "support/debug.hpp"
#include "uop/graph.hpp"
#include "uop/print.hpp"

namespace tinyphys {
namespace {

std::string node_line(const std::string& id, const std::string& label, const char* more = "") {
  return "  " + id + " [label=" + dot_quoted(label) + more + "];\n";
}

// `number`: of the step that holds this plan, with a dot behind; it starts the ids of steps and of what they use.
std::string draw(const Plan& plan, const std::string& number) {
  std::string prefix = number;
  for (char& c : prefix)
    if (c == '.') c = '_';
  const auto buffer = [&](int i) { return "b" + prefix + std::to_string(i); };
  std::string out, bodies;
  const auto declare = [&](const std::vector<Slot>& slots, const char* letter) {
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const std::string short_id = letter + std::to_string(i);
      out += node_line(letter + prefix + std::to_string(i),
                       short_id + "\n" + std::string(name(slots[i].dtype)) + shape_text(slots[i].shape),
                       ", shape=ellipse");
    }
  };
  declare(plan.slots, "b");
  declare(plan.scalars, "s");
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const PlanStep& s = plan.steps[i];
    const std::string id = "step" + prefix + std::to_string(i);
    std::string label = number + std::to_string(i) + " " + step_name(s);
    const Node* made_by = s.code && s.code->op == Op::LAMBDA && s.code->n_src ? s.code->src(0) : s.code.get();
    if (made_by && made_by->op == Op::GET) made_by = made_by->src(0);
    if (const std::string at = made_by ? location_text(made_by) : ""; !at.empty()) label += "\n" + at;
    out += node_line(id, label);
    for (const Operand& o : s.inputs)
      if (o.index >= 0)
        out += "  " + (o.scalar ? "s" + prefix + std::to_string(o.index) : buffer(o.index)) + " -> " + id +
               ";\n";
    for (int o : s.outputs)
      if (o >= 0) out += "  " + id + " -> " + buffer(o) + ";\n";
    if (s.body)
      bodies += "  subgraph cluster_" + id +
                " {\n  label=" + dot_quoted("body of step " + number + std::to_string(i)) + ";\n" +
                draw(*s.body, number + std::to_string(i) + ".") + "  }\n";
  }
  for (std::size_t i = 0; i < plan.results.size(); ++i) {
    const std::string id = "result" + prefix + std::to_string(i);
    out += node_line(id, "result " + std::to_string(i), ", shape=plaintext");
    out += "  " + buffer(plan.results[i]) + " -> " + id + ";\n";
  }
  return out + bodies;
}

void dump_kernels(const Plan& plan, Device& device, const std::string& number, NodeMap<char>& seen) {
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const PlanStep& s = plan.steps[i];
    if (s.body) dump_kernels(*s.body, device, number + std::to_string(i) + ".", seen);
    if ((s.kind != PlanOp::kKernel && s.kind != PlanOp::kHost) || !seen.insert(s.code.get(), 1)) continue;
    const std::string stage = (s.kind == PlanOp::kKernel ? "kernel " : "host ") + number + std::to_string(i);
    Node* code = s.code.get();
    const std::span<Node* const> root(&code, 1);
    Source source;
    std::string ir, code_text, time;
    if (s.kind == PlanOp::kKernel) {
      source = source_of(device, s.code);
      ir = device.optimized(source);
      // What tells no IR has no machine code to tell, and may take long to compile.
      if (!ir.empty()) {
        const auto start = std::chrono::steady_clock::now();
        const std::string machine_code = device.compile(source);
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
        code_text = device.disassemble(machine_code);
        time = fmt::format("{} compiled in {:.3f} ms: {} bytes of code\n", source.name, took.count(),
                           machine_code.size());
      }
    }
    dump(stage, {{"txt", to_text(root)},
                 {"dot", to_dot(root)},
                 {device.name().starts_with("cl") ? "cl" : "ll", source.text},
                 {"opt.ll", ir},
                 {"asm", code_text},
                 {"time", time}});
  }
}

}  // namespace

std::string to_dot(const Plan& plan) {
  return "digraph {\n  node [shape=box, fontname=monospace, fontsize=10];\n" + draw(plan, "") + "}\n";
}

void dump_plan(const Plan& plan, Device& device) {
  dump("plan", {{"txt", to_text(plan)}, {"dot", to_dot(plan)}});
  NodeMap<char> seen;
  dump_kernels(plan, device, "", seen);
}

std::string times_text(const Plan& plan, const StepTimes& times, const std::string& number) {
  std::string out;
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const PlanStep& s = plan.steps[i];
    if (const auto t = times.find(&s); t != times.end())
      out += fmt::format("{}{}  {}  {} run{}  {:.3f} ms\n", number, i, step_name(s), t->second.runs,
                         t->second.runs == 1 ? "" : "s", 1e3 * t->second.seconds);
    if (s.body) out += times_text(*s.body, times, number + std::to_string(i) + ".");
  }
  return out;
}

void dump_run(const Plan& plan, const StepTimes& times, std::span<const std::string> reports) {
  dump("times", {{"txt", times_text(plan, times)}});
  std::string all;
  for (std::size_t i = 0; i < reports.size(); ++i)
    if (std::find(reports.begin(), reports.begin() + static_cast<std::ptrdiff_t>(i), reports[i]) ==
        reports.begin() + static_cast<std::ptrdiff_t>(i))
      all += (all.empty() ? "" : "\n") + reports[i];
  dump("explain", {{"txt", all}});
}

}  // namespace tinyphys
