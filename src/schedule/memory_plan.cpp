// Which slots share memory, decided once with the plan.
#include <algorithm>
#include <map>

#include "schedule/plan.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr int kNever = -1;

// The params from which the one output is computed element by element: none of its elements reads another one of them.
std::vector<char> elementwise_params(const Node* lambda) {
  const auto order = toposort(std::span<Node* const>(lambda->src()));
  std::vector<char> out(static_cast<std::size_t>(lambda->arg(0)), 0);
  // Whether all ways from the output to a node are elementwise; a RESHAPE keeps the order of elements.
  NodeMap<char> same;
  same.insert(lambda->src(0), 1);
  for (std::size_t i = order.size(); i-- > 0;) {  // users before what they use
    const Node* n = order[i];
    const char here = same.at(n);
    if (n->op == Op::PARAM) out[static_cast<std::size_t>(n->arg(0))] = here;
    const char on = here && (is_elementwise(n->op) || n->op == Op::RESHAPE);
    for (Node* s : n->src())
      if (!same.insert(s, on)) same[s] &= on;
  }
  return out;
}

class MemoryPlanner {
 public:
  explicit MemoryPlanner(Plan& plan)
      : plan_(plan), first_(plan.slots.size()), last_(first_.size(), kNever), handed_on_(first_.size(), 0) {
    for (std::size_t i = 0; i < first_.size(); ++i) first_[i] = static_cast<int>(i);
  }

  void run() {
    find_lives();
    std::vector<int> last_write;  // of each buffer
    for (std::size_t k = 0; k < plan_.steps.size(); ++k) {
      PlanStep& step = plan_.steps[k];
      const bool makes = step.kind != PlanOp::kCheck;  // a CHECK hands its input on
      for (std::size_t o = 0; makes && o < step.outputs.size(); ++o) {
        if (step.outputs[o] < 0 || (step.kind == PlanOp::kLoop && o < step.n_carry))
          continue;  // the body's own
        Slot& s = slot(step.outputs[o]);
        if (o == 0) step.overwritten = slot_to_overwrite(k);
        s.buffer = o == 0 && step.overwritten >= 0 ? slot(step.overwritten).buffer : take(s.bytes());
        last_write.resize(plan_.buffers.size(), kNever);
        last_write[static_cast<std::size_t>(s.buffer)] = static_cast<int>(k);
      }
      for (int d : step.dead)
        if (const Slot& s = slot(d); s.buffer >= 0 && d != step.overwritten)
          free_[s.bytes()].push_back(s.buffer);
    }
    for (std::size_t k = plan_.steps.size(); k-- > 0;) {
      PlanStep& step = plan_.steps[k];
      for (int d : step.dead) {
        const int b = slot(d).buffer;
        if (b < 0 || d == step.overwritten || last_write[static_cast<std::size_t>(b)] > static_cast<int>(k))
          continue;
        step.idle.push_back(b);
      }
    }
  }

 private:
  Slot& slot(int i) { return plan_.slots[static_cast<std::size_t>(i)]; }
  int& first(int i) { return first_[static_cast<std::size_t>(i)]; }
  int& last(int i) { return last_[static_cast<std::size_t>(first(i))]; }

  void find_lives() {
    const int end = static_cast<int>(plan_.steps.size());
    for (int k = 0; k < end; ++k) {
      const PlanStep& step = plan_.steps[static_cast<std::size_t>(k)];
      if (step.kind == PlanOp::kCheck) {
        first(step.outputs[0]) = first(step.inputs[0].index);
        handed_on_[static_cast<std::size_t>(first(step.outputs[0]))] = 1;
      }
      for (const Operand& o : step.inputs)
        if (!o.scalar && o.index >= 0) last(o.index) = k;
      for (int o : step.outputs)
        if (o >= 0) last(o) = k;
    }
    for (const Operand& p : plan_.params)
      if (!p.scalar && p.index >= 0) last(p.index) = end;
    for (int r : plan_.results) last(r) = end;
    for (int i = 0; i < static_cast<int>(plan_.slots.size()); ++i)
      if (const int k = last(i); k != kNever && k < end)
        plan_.steps[static_cast<std::size_t>(k)].dead.push_back(i);
  }

  int take(std::size_t bytes) {
    std::vector<int>& ready = free_[bytes];
    if (ready.empty()) {
      plan_.buffers.push_back(bytes);
      return static_cast<int>(plan_.buffers.size()) - 1;
    }
    const int b = ready.back();
    ready.pop_back();
    return b;
  }

  int slot_to_overwrite(std::size_t k) {
    const PlanStep& step = plan_.steps[k];
    if (step.kind != PlanOp::kKernel || step.scan_kernel || step.outputs.size() != 1) return -1;
    const Slot& to = slot(step.outputs[0]);
    std::vector<char> elementwise;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      const Operand& o = step.inputs[i];
      if (o.scalar || o.index < 0) continue;
      const Slot& from = slot(o.index);
      const bool dies =
          last(o.index) == static_cast<int>(k) && !handed_on_[static_cast<std::size_t>(o.index)];
      if (from.buffer < 0 || !dies || item_size(from.dtype) != item_size(to.dtype) ||
          from.bytes() != to.bytes())
        continue;
      if (elementwise.empty()) elementwise = elementwise_params(step.code.get());
      if (elementwise[i]) return o.index;
    }
    return -1;
  }

  Plan& plan_;
  std::vector<int> first_;  // the slot whose memory a slot has, by a CHECK
  std::vector<int> last_;   // per such slot: the last step that touches it
  std::vector<char> handed_on_;
  std::map<std::size_t, std::vector<int>> free_;
};

}  // namespace

void plan_memory(Plan& plan) { MemoryPlanner(plan).run(); }

}  // namespace tinyphys
