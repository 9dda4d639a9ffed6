#include "tinyphys/explain.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "derive/complex.hpp"
#include "engine/engine.hpp"
#include "engine/origin.hpp"
#include "passes/evolve_report.hpp"
#include "passes/scan_lift.hpp"
#include "support/records.hpp"
#include "tensor/access.hpp"
#include "tensor/engine_hook.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/history.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

constexpr int kTextColumn = 9, kWhereColumn = 100;
// Evolutions and scans that are told one by one; the rest is counted.
constexpr std::size_t kMaxEntries = 16;
constexpr std::size_t kMaxPlanLines = 20;

std::string tensor_text(const Node* n) { return std::string(name(n->dtype)) + shape_text(n->shape()); }

// What one evolution or scan has to say, and how many of its kind in a row say the same.
struct Entry {
  Records records;
  std::int64_t count = 1;

  // Times differ from run to run; what was asked and proved, and which way was taken, does not.
  bool same_as(const Entry& other) const {
    if (records.size() != other.records.size()) return false;
    for (std::size_t i = 0; i < records.size(); ++i) {
      const Record &a = records[i], &b = other.records[i];
      if (a.key != b.key || a.where != b.where) return false;
      const bool timed = a.key == Finding::kChose || a.key == Finding::kError || a.key == Finding::kRefused;
      if (!timed && a.text != b.text) return false;
    }
    return true;
  }
};

struct Entries {
  std::vector<Entry> list;   // the last first
  std::int64_t earlier = 0;  // that a value which let go of its past no longer knows

  void add(Records records, std::int64_t count) {
    Entry e{std::move(records), count};
    if (!list.empty() && e.same_as(list.back()))
      list.back().count += count;
    else
      list.push_back(std::move(e));
  }
};

Records report_loop(Node* recorded, std::shared_ptr<const Notes> run, const std::string& where,
                    const Labels& labels) {
  Records to;
  const UOp real = lower_complex_loop(UOp::share(recorded));  // as the passes see it
  Node* n = real.get();
  if (n->op == Op::EVOLVE || n->op == Op::EVOLVE_VJP)
    EvolveNotes(n, run, where, labels).report(to);
  else
    ScanNotes(n, run, where, labels).report(to);
  if (n->op != Op::SCAN || !labels.why_loop.empty())
    return to;  // the latter: it has told what its steps hold
  // What its steps hold, at the numbers that they are given. The run tells of the last one, where there is one such loop
  // in it.
  const ScanView scan(n);
  std::vector<Node*> inner;
  for (Node* x : toposort(scan.body()->src()))
    if (is_loop(x->op)) inner.push_back(x);
  const auto first = static_cast<std::int64_t>(1 + scan.n_carry + scan.n_xs);
  for (Node* x : inner) {
    const UOp at_numbers = substitute(UOp::share(x), [&](Node* p) -> UOp {
      if (p->op != Op::PARAM || p->arg(0) < first) return {};
      Node* given = scan.captured()[static_cast<std::size_t>(p->arg(0) - first)];
      return is_const(given) ? UOp::share(given) : UOp();
    });
    Labels own = labels_of(x);
    own.places.insert(own.places.end(), labels.places.begin(), labels.places.end());
    const std::string at = with_own_places(" at " + location_text(x), labels, x->op).substr(4);
    Records of_step = report_loop(at_numbers.get(), inner.size() == 1 ? run : nullptr, at, own);
    of_step.front().text.insert(0, "in each step: ");
    to.insert(to.end(), of_step.begin(), of_step.end());
  }
  return to;
}

Entries entries_of(const UOp& value) {
  // A value remembers what it came from; what is below it may be gone.
  std::vector<std::shared_ptr<const Origin>> origins;
  NodeMap<std::shared_ptr<const Notes>> runs;  // of evolutions and scans
  NodeMap<std::vector<const Node*>> loops;     // by what their Steps hold
  std::vector<UOp> forms;                      // that the map speaks of
  std::vector<Node*> order;
  {
    // No value is dropped meanwhile.
    std::optional<ComputeLock> lock;
    if (!ComputeLock::held_here()) lock.emplace();
    order = toposort(value, [](const Node* n) { return storage(n) && storage(n)->origin; });
    for (const Node* n : order)
      if (is_loop(n->op)) {
        forms.push_back(without_data(n));
        loops[forms.back().get()].push_back(n);
      }
    for (Node* n : order) {
      const Storage* s = storage(n);
      if (!s || !s->origin) continue;
      if (std::ranges::find(origins, s->origin) == origins.end()) origins.push_back(s->origin);
      // The outputs of a loop may be gone already: what is made of them knows of it.
      for (const Origin::Step& step : s->origin->steps)
        if (const auto* of = loops.find(step.node.get()); of && step.run)
          for (const Node* loop : *of)
            if (location_text(loop) == step.where) runs.insert(loop, step.run);
    }
  }
  Entries out;
  for (std::size_t i = order.size(); i-- > 0;) {
    Node* n = order[i];
    if (!is_loop(n->op)) continue;
    const auto* run = runs.find(n);
    out.add(report_loop(n, run ? *run : nullptr, location_text(n), labels_of(n)), 1);
  }
  const Origin before = merged(origins);
  out.earlier = before.earlier;
  for (const Origin::Step& s : before.steps)
    out.add(report_loop(s.node.get(), s.run, s.where, s.labels), s.times);
  return out;
}

void write(const Record& r, std::string& out) {
  std::string line = fmt::format("{:<{}}{}", name(r.key), kTextColumn, r.text);
  if (!r.where.empty()) line = fmt::format("{:<{}} {}", line, kWhereColumn, r.where);
  out += line + "\n";
}

nlohmann::json json_of(const Record& r) {
  nlohmann::json j{{"key", name(r.key)}, {"text", r.text}};
  if (!r.where.empty()) j["where"] = r.where;
  for (const auto& [key, number] : r.numbers)
    std::visit([&, k = &key](const auto& v) { j["numbers"][*k] = v; }, number);
  return j;
}

}  // namespace

Explanation explain_value(const UOp& value) {
  Entries found = entries_of(value);
  std::vector<Entry>& entries = found.list;
  nlohmann::json json{{"entries", nlohmann::json::array()}};
  std::string text;
  std::int64_t left = found.earlier;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Entry& e = entries[i];
    if (i >= kMaxEntries) {
      left += e.count;
      continue;
    }
    if (e.count > 1)
      e.records.push_back({Finding::kRepeats,
                           fmt::format("{} times in a row, this is the last", with_commas(e.count)),
                           "",
                           {{"count", e.count}}});
    nlohmann::json list = nlohmann::json::array();
    for (const Record& r : e.records) {
      write(r, text);
      list.push_back(json_of(r));
    }
    json["entries"].push_back(std::move(list));
  }
  Records rest;
  if (left > 0)
    rest.push_back({Finding::kRepeats,
                    fmt::format("{} earlier evolutions and scans are not told: a report ends after {}",
                                with_commas(left), kMaxEntries),
                    "",
                    {{"left_out", left}}});
  if (storage(value.get())) {
    rest.push_back({Finding::kValue, "realized, " + tensor_text(value.get())});
  } else if (!(value->flags & Node::kHasSym)) {
    const std::string plan = describe_plan(std::span<const UOp>(&value, 1));
    Record r{Finding::kPlan, plan};
    while (!r.text.empty() && r.text.back() == '\n') r.text.pop_back();
    std::size_t end = 0, lines = 0;
    for (; lines < kMaxPlanLines && end != std::string::npos; ++lines) end = r.text.find('\n', end + 1);
    if (end != std::string::npos) {
      const auto left_out = std::count(r.text.begin() + static_cast<std::ptrdiff_t>(end), r.text.end(), '\n');
      r.text = r.text.substr(0, end) + fmt::format("\nand {} steps more", with_commas(left_out));
    }
    for (std::size_t i = 0; (i = r.text.find('\n', i)) != std::string::npos; i += kTextColumn + 1)
      r.text.insert(i + 1, kTextColumn, ' ');
    rest.push_back(std::move(r));
  }
  if (entries.empty())
    rest.push_back(
        {Finding::kFound, "no evolution and no scan in this value: it runs as written, in fused kernels"});
  for (const Record& r : rest) {
    write(r, text);
    json["value"].push_back(json_of(r));
  }
  return {std::move(text), json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace)};
}

Report explain(const Tensor& t, Where where) {
  const UOp u = front::value(t, "explain", where);
  Explanation e = engine().explain(u);
  return Report{std::move(e.text), std::move(e.json)};
}

}  // namespace tinyphys
