#include "engine/engine.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <unistd.h>
#include <unordered_map>

#include "analysis/linear_operator.hpp"
#include "codegen/kernel.hpp"
#include "engine/canonical.hpp"
#include "engine/dump.hpp"
#include "engine/origin.hpp"
#include "engine/pipeline.hpp"
#include "engine/recall.hpp"
#include "engine/run.hpp"
#include "passes/conserved.hpp"
#include "passes/loop_lift.hpp"
#include "passes/proposals.hpp"
#include "passes/resonances.hpp"
#include "passes/split.hpp"
#include "runtime/device.hpp"
#include "schedule/plan.hpp"
#include "support/debug.hpp"
#include "support/devices.hpp"
#include "support/env.hpp"
#include "support/progress.hpp"
#include "support/small_vector.hpp"
#include "tensor/engine_hook.hpp"
#include "tensor/system.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/history.hpp"
#include "uop/pending.hpp"
#include "uop/print.hpp"
#include "uop/scan_layout.hpp"
#include "uop/spec.hpp"

namespace tinyphys {
namespace {

ScheduleOptions schedule_options() {
  ScheduleOptions o;
  o.fuse = env::optimize();
  o.fits_kernel = [](const Node* scan) {
    long ops = 0;
    return fits_scan_kernel(scan, ops);
  };
  return o;
}

class Engine final : public EngineHook {
 public:
  void realize(std::span<const UOp> values) override {
    if (std::all_of(values.begin(), values.end(), [](const UOp& v) { return storage(v.get()); })) return;
    not_inside("realize");
    if (std::any_of(values.begin(), values.end(), [](const UOp& v) { return v->flags & Node::kCrosses; }))
      move_between_devices(values);
    const auto on_one = [&](const UOp& v) { return v->device() == values[0]->device(); };
    if (std::all_of(values.begin(), values.end(), on_one)) return realize_on(values[0]->device(), values);
    std::vector<UOp> rest(values.begin(), values.end());
    while (!rest.empty()) {
      const int number = rest[0]->device();
      const auto others = std::stable_partition(rest.begin(), rest.end(),
                                                [&](const UOp& v) { return v->device() == number; });
      realize_on(number, std::span<const UOp>(rest.begin(), others));
      rest.erase(rest.begin(), others);
    }
  }

  // What is not likely to be asked for again, when that is cheaper, without code made for it.
  void realize_once(std::span<const UOp> values) {
    const auto elsewhere = [](const UOp& v) { return v->device() != 0 || (v->flags & Node::kCrosses); };
    if (device_by(0).name() != "cpu" || std::any_of(values.begin(), values.end(), elsewhere))
      return realize(values);
    not_inside("realize");
    realize_on(0, values, true);
  }

  std::int64_t check_evolve(const UOp& evolve, const std::source_location& where) override {
    check_integrator(evolve.get(), where.file_name(), where.line());
    return value_verdict(evolve.get());
  }

  std::vector<ProvenInvariant> proven_invariants(const UOp& evolve) override {
    return prove_conserved(evolve.get())->invariants;
  }
  UOp split_energy(const UOp& evolve) override { return split_by_terms(evolve.get()); }
  Records found_of(const UOp& evolve) override {
    std::optional<ComputeLock> lock;  // no value is dropped meanwhile
    if (!ComputeLock::held_here()) lock.emplace();
    const EvolveRecord record = EvolveView(evolve.get()).record();
    if (!record.flows.empty()) return find_split_resonances(evolve.get());
    const Labels labels = labels_of(evolve.get());
    return record.levels.empty() ? find_proposals(evolve.get(), labels)
                                 : find_resonances(evolve.get(), labels);
  }
  UOp split_evolve(const UOp& evolve, const std::source_location& where) override {
    std::optional<ComputeLock> lock;  // as for found_of
    if (!ComputeLock::held_here()) lock.emplace();
    return tinyphys::split_evolve(evolve, where.file_name(), where.line());
  }

  OperatorProof prove_operator(const UOp& psi, const UOp& value) override {
    return tinyphys::prove_operator(psi, value);
  }

  void find_device(std::string_view name) override { (void)device(name); }

  Explanation explain(const UOp& value) override { return explain_value(value); }

  std::string describe(std::span<const UOp> values) {
    not_inside("explain");
    const ComputeLock lock;
    const Wanted wanted(values);
    if (wanted.roots.empty()) return "nothing to run\n";
    return to_text(plan_of(wanted.roots, canonicalize(wanted.roots).program, device_by(0)).plan());
  }

  PlanCounts counts() {
    not_inside("plan_counts");
    const ComputeLock lock;
    return counts_;
  }

 private:
  // The user's choice, as in Node::device().
  static Device& device_by(int number) { return device(number == 0 ? env::device() : device_name(number)); }

  // Computes what is copied from one device to another below these values, each on its device, and copies it.
  void move_between_devices(std::span<const UOp> values) {
    std::vector<Node*> roots;
    for (const UOp& v : values) roots.push_back(v.get());
    std::vector<UOp> copies;
    for (Node* n : toposort(roots, [](const Node* x) { return storage(x) || !(x->flags & Node::kCrosses); }))
      if (n->op == Op::COPY && !is_copy(n) && !storage(n)) copies.push_back(UOp::share(n));
    for (const UOp& copy : copies)  // sources first
      while (!storage(copy.get())) move(copy);
  }

  void move(const UOp& copy) {
    const UOp source = copy.src(0);
    realize_on(source->device(), std::span<const UOp>(&source, 1));
    const ComputeLock lock;
    // Another thread may have done it meanwhile, or let go of a constant that no handle holds.
    if (storage(copy.get()) || !storage(source.get())) return;
    StorageRef value =
        in_memory(StorageRef::share(storage(source.get())), device_by(copy->device()).memory());
    value->origin = storage(source.get())->origin;
    set_storage(copy.get(), std::move(value));
    note_realized(copy.get());
  }

  // All on one device, and with nothing below that is not there.
  void realize_on(int number, std::span<const UOp> values, bool once = false) {
    if (std::all_of(values.begin(), values.end(), [](const UOp& v) { return storage(v.get()); })) return;
    const ComputeLock lock;
    let_go();
    std::vector<UOp> few = values.size() <= kFew ? missing(values) : std::vector<UOp>();
    std::optional<Recall::Found> known = recall_.find(few);
    const Wanted wanted = known ? Wanted(std::move(few), known->origin != nullptr) : Wanted(values);
    const std::vector<UOp>& roots = wanted.roots;
    if (roots.empty()) return;  // another thread has done it meanwhile
    const bool timed = debug_enabled(1, "time");
    const auto start = timed ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
    if (env::verify()) {
      std::vector<Node*> nodes;
      for (const UOp& r : roots) nodes.push_back(r.get());
      verify(nodes, Stage::kTensor);
    }
    const Canonical canonical = known ? std::move(known->canonical) : canonicalize(roots, wanted.has_loops);
    if (!known && !wanted.has_loops) recall_.keep(canonical);
    Device& on =
        once && !wanted.has_loops ? device_for_once(canonical.program, device_by(number)) : device_by(number);
    const std::int64_t plans_before = counts_.made;
    ReadyPlan& ready = plan_of(roots, canonical.program, on);
    RunContext context{on, schedule_options(), progress_of(wanted)};
    StepTimes times;
    const bool dumped = counts_.made != plans_before && env::dumping();
    if (dumped) context.times = &times;
    if (!context.device.runs()) {
      ready.compile(context.device);
      throw Error("realize",
                  "the device " + std::string(on.name()) + " compiles and runs nothing: there are no values",
                  "", 0);
    }
    std::vector<StorageRef>* made;
    try {
      made = &ready.run(canonical.arguments, context);
      on.finish();
    } catch (const Error& e) {
      ready.release();
      throw at_own_place(e, roots);
    } catch (...) {
      ready.release();
      throw;
    }
    std::vector<StorageRef>& results = *made;
    const bool of_all = known && !known->many_origins && roots.size() == 1;
    if (wanted.has_origin) record_origins(roots, ready, canonical, results, of_all ? known->origin : nullptr);
    for (std::size_t i = 0; i < roots.size(); ++i) {
      set_storage(roots[i].get(), std::move(results[i]));
      note_realized(roots[i].get());
    }
    ready.release();
    if (dumped) {
      constexpr std::size_t kReports = 16;  // of more values seldom another is told
      std::vector<std::string> reports;
      for (const UOp& v : values.first(std::min(values.size(), kReports)))
        reports.push_back(explain_value(v).text);
      dump_run(ready.plan(), times, reports);
    }
    if (timed) {
      char line[120];
      const double ms =
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
      std::snprintf(line, sizeof line, "realized %zu value%s in %.3f ms: %zu steps on %s", roots.size(),
                    roots.size() == 1 ? "" : "s", ms, ready.plan().steps.size(),
                    std::string(on.name()).c_str());
      debug_print(1, "time", line);
    }
    if (debug_enabled(3, "physics"))
      for (const UOp& v : values) debug_print(3, "physics", explain_value(v).text);
  }

  static void not_inside(std::string_view call) {
    if (ComputeLock::held_here())
      throw Error(call, "a value was asked for inside a progress callback, while another is being computed",
                  "", 0);
  }

  // So many values at most are looked for among programs that are kept.
  static constexpr std::size_t kFew = 32;

  // Those that have no storage, each once.
  static std::vector<UOp> missing(std::span<const UOp> values) {
    std::vector<UOp> out;
    for (const UOp& v : values)
      if (!storage(v.get()) && std::ranges::find(out, v.get(), &UOp::get) == out.end()) out.push_back(v);
    return out;
  }

  // The values that have no storage yet, and with them what is dear to make twice: every output of the evolutions
  // and scans below, so that a loop runs once however its results are asked for.
  struct Wanted {
    std::vector<UOp> roots;
    std::vector<Node*> loops;  // below them: evolutions and scans
    bool has_loops = false;    // scans, evolutions, or derivatives of them
    bool has_origin = false;   // an evolution or a scan made them, or what they are made of

    // Above no loop.
    Wanted(std::vector<UOp> missing, bool origin) : roots(std::move(missing)), has_origin(origin) {}
    explicit Wanted(std::span<const UOp> values) {
      SmallVector<Node*, 8> nodes;
      NodeMap<char> seen;
      auto want = [&](UOp u) {
        if (!storage(u.get()) && !(u->flags & Node::kHasSym) && seen.insert(u.get(), 1))
          roots.push_back(std::move(u));
      };
      for (const UOp& v : values)
        if (!storage(v.get()) && seen.insert(v.get(), 1)) {
          roots.push_back(v);
          nodes.push_back(v.get());
        }
      for (Node* n : toposort(nodes, [](const Node* x) { return storage(x) != nullptr; })) {
        std::size_t outputs = 0;
        if (n->op == Op::EVOLVE) outputs = 2;
        if (n->op == Op::SCAN) outputs = ScanView(n).n_carry;
        has_loops |= is_loop(n->op);
        if (n->op == Op::EVOLVE || n->op == Op::SCAN) loops.push_back(n);
        const Storage* value = storage(n);
        has_origin |= is_loop(n->op) || (value && value->origin);
        for (std::size_t i = 0; i < outputs; ++i) want(get(UOp::share(n), static_cast<std::int64_t>(i)));
        if (n->op == Op::GET && is_loop(n->src(0)->op)) want(UOp::share(n));
      }
    }
  };

  // `of_all`: where it is known to be the origin of every value that is made here.
  static void record_origins(std::span<const UOp> roots, const ReadyPlan& ready, const Canonical& canonical,
                             std::span<const StorageRef> results,
                             const std::shared_ptr<const Origin>& of_all) {
    const auto notes_of = [&](Node* evolve) -> std::shared_ptr<const Notes> {
      for (std::size_t i = 0; i < roots.size(); ++i)
        if (roots[i]->op == Op::GET && roots[i]->src(0) == evolve)
          if (auto notes = ready.notes(i)) return notes;
      return nullptr;
    };
    // The outputs of one evolution share one record.
    NodeMap<std::shared_ptr<const Origin>> known;
    for (std::size_t i = 0; i < roots.size(); ++i) {
      const bool handed_through =
          std::any_of(canonical.arguments.begin(), canonical.arguments.end(),
                      [&](const Argument& a) { return a.data.get() == results[i].get(); });
      if (handed_through || results[i]->origin) continue;
      if (of_all) {
        results[i]->origin = of_all;
        continue;
      }
      Node* n = roots[i]->op == Op::GET ? roots[i]->src(0) : roots[i].get();
      auto* found = known.find(n);
      if (!found) {
        known.insert(n, origin_of(n, notes_of));
        found = known.find(n);
      }
      results[i]->origin = *found;
    }
  }

  // The user's callback, and the bar where a terminal is there to show it; nothing where neither is wanted, so that
  // a scan kernel runs in one go.
  static StepProgress progress_of(const Wanted& wanted) {
    std::function<void(const Progress&)> callback;
    for (Node* n : wanted.loops)
      if (!callback) callback = progress_callback(n);
    const env::ProgressChoice choice = env::progress();
    static const bool terminal = isatty(STDERR_FILENO) != 0;
    const bool bar = choice == env::ProgressChoice::On || (choice == env::ProgressChoice::Auto && terminal);
    if (!callback && !bar) return {};
    return [callback, bar, start = std::chrono::steady_clock::now(),
            shown = std::make_shared<std::unique_ptr<ProgressBar>>()](std::int64_t done, std::int64_t total) {
      if (bar && !*shown) *shown = std::make_unique<ProgressBar>("loop", total);
      if (*shown) (*shown)->update(done);
      if (*shown && done >= total) shown->reset();
      if (!callback) return;
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      callback({static_cast<double>(done) / static_cast<double>(std::max<std::int64_t>(total, 1)), done,
                total, elapsed.count()});
    };
  }

  // The interpreter where the program is new and small: it computes some elements in the time in which an operation is compiled.
  Device& device_for_once(const UOp& program, Device& on) {
    constexpr std::int64_t kElements = 4096;
    Device& interpreter = device("interp");
    for (Device* d : {&on, &interpreter})
      if (plans_.contains({program.get(), env::optimize(), env::tape_bytes(), d})) return on;
    std::int64_t elements = 0, operations = 0;
    for (const Node* n : toposort(program->src())) {
      if (n->n_src == 0) continue;
      // A product walks over what it sums, too.
      elements += n->size() + (n->op == Op::REDUCE || n->op == Op::MATMUL ? n->src(0)->size() : 0);
      elements += n->op == Op::MATMUL ? n->size() * n->src(0)->shape().back() : 0;
      ++operations;
    }
    return elements <= kElements * operations ? interpreter : on;
  }

  ReadyPlan& plan_of(std::span<const UOp> roots, const UOp& program, Device& on) {
    constexpr std::size_t kMaxPlans = 4096, kMaxPlannedNodes = std::size_t{1} << 19;
    const Key key{program.get(), env::optimize(), env::tape_bytes(), &on};
    if (auto it = plans_.find(key); it != plans_.end()) {
      ++counts_.reused;
      return *it->second.ready;
    }
    ++counts_.made;
    if (debug_enabled(3, "graph")) debug_print(3, "graph", to_text(program));
    if (env::dumping()) {
      std::vector<Node*> recorded;
      for (const UOp& r : roots) recorded.push_back(r.get());
      dump_graph("recorded", recorded);
      dump_graph("canonical", program);
    }
    const UOp lowered = run_passes(program, {env::optimize()});
    std::shared_ptr<Plan> plan = schedule(lowered.get(), schedule_options());
    if (debug_enabled(2, "schedule")) debug_print(2, "schedule", to_text(*plan));
    if (env::dumping()) dump_plan(*plan, on);
    // The plans of graphs of 10^6 nodes are large, and such a graph seldom comes again: they are few.
    const std::size_t nodes = toposort(program).size();
    if (plans_.size() >= kMaxPlans || planned_nodes_ + nodes > kMaxPlannedNodes) {
      plans_.clear();
      planned_nodes_ = 0;
    }
    planned_nodes_ += nodes;
    Entry& e = plans_[key];
    e.program = program;
    e.ready = std::make_unique<ReadyPlan>(std::move(plan));
    return *e.ready;
  }

  struct Key {
    const Node* program;
    bool optimize;
    double tape_bytes;
    const Device* device;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& k) const {
      return reinterpret_cast<std::uintptr_t>(k.program) * 8 +
             reinterpret_cast<std::uintptr_t>(k.device) * 2 + k.optimize;
    }
  };
  struct Entry {
    UOp program;  // keeps the key alive
    std::unique_ptr<ReadyPlan> ready;
  };

  // Under the ComputeLock.
  std::unordered_map<Key, Entry, KeyHash> plans_;
  std::size_t planned_nodes_ = 0;  // of all programs in plans_
  Recall recall_;
  PlanCounts counts_;
};

// Lives until the process ends: tensors of static objects may still ask for it.
Engine& the_engine() {
  static Engine* e = new Engine;
  return *e;
}

[[maybe_unused]] const bool registered = [] {
  register_engine(&the_engine());
  return true;
}();

}  // namespace

void realize_once(std::span<const UOp> values) { the_engine().realize_once(values); }

PlanCounts plan_counts() { return the_engine().counts(); }
std::string describe_plan(std::span<const UOp> values) { return the_engine().describe(values); }

}  // namespace tinyphys
