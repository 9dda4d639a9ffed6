#include "engine/fold.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <string>

#include <fmt/format.h>

#include "engine/engine.hpp"
#include "engine/repetition.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "support/records.hpp"
#include "tensor/engine_hook.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/history.hpp"
#include "uop/pending.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// The last passes stay as they are: the user holds values of them, and the next ones begin there.
constexpr std::size_t kLeftAlone = 2;
// Before something is computed so many operations that do not repeat are.
constexpr std::size_t kOdd = 1024;
// A loop that has been found is looked at again after so many: they stay in the cache. Where they are a few passes only, as
// with a branch that is taken every hundredth time, as late as may be.
constexpr std::size_t kGoOn = 1024, kFewPasses = 16;
// Values of single passes that are kept are rows of one array; it must not be larger than this.
constexpr double kMostStacked = 1 << 28;

std::string lines_of(const Trace& trace, const Repetition& r, std::uint32_t& first) {
  std::string file;
  unsigned low = 0, high = 0;
  for (std::size_t place = 0; place < r.length; ++place) {
    const std::uint32_t id = trace[r.at(0, place)].location;
    if (id == 0) continue;
    const Location at = location(id);
    if (file.empty()) file = at.file;
    if (at.file != file) continue;
    if (low == 0 || at.line < low) {
      low = at.line;
      first = id;
    }
    high = std::max(high, at.line);
  }
  if (file.empty()) return "a loop";
  return fmt::format("{}:{}", file, low) + (high > low ? fmt::format("-{}", high) : "");
}

// The numbers of all passes: one after the other in steps of one product, (start + index) * factor to the bit, or an array.
UOp number_of_pass(const std::vector<const Node*>& numbers, ScanParts& parts) {
  const DType d = numbers[0]->dtype;
  const auto count = static_cast<std::int64_t>(numbers.size());
  const auto index_from = [&](std::int64_t start) {
    return make(Op::ADD, {parts.index, constant_int(start)});
  };
  if (d == DType::kInt64) {
    const std::int64_t start = const_int(numbers[0]);
    bool counts = true;
    for (std::int64_t i = 0; i < count; ++i)
      counts = counts && const_int(numbers[static_cast<std::size_t>(i)]) == start + i;
    if (counts) return index_from(start);
  }
  if (d == DType::kFloat64) {
    const double a = const_double(numbers[0]), b = const_double(numbers[1]);
    const double last = const_double(numbers.back());
    const double rough = (last - a) / static_cast<double>(count - 1);
    const double start = std::round(a / rough);
    if (std::isfinite(start) && std::fabs(start) < 0x1p52) {
      // i * h was rounded; h is one of the doubles near.
      for (const double factor : {b - a, rough, last / (start + static_cast<double>(count - 1)), a / start}) {
        if (!std::isfinite(factor)) continue;
        bool holds = true;
        for (std::int64_t i = 0; holds && i < count; ++i)
          holds = bits((start + static_cast<double>(i)) * factor) ==
                  bits(const_double(numbers[static_cast<std::size_t>(i)]));
        if (holds) return scaled(cast(index_from(static_cast<std::int64_t>(start)), DType::kFloat64), factor);
      }
    }
  }
  StorageRef data = allocate(d, std::span(&count, 1));
  {
    const HostWrite to(*data);
    for (std::int64_t i = 0; i < count; ++i) {
      const Node* n = numbers[static_cast<std::size_t>(i)];
      switch (d) {
        case DType::kFloat64: to.as<double>()[i] = const_double(n); break;
        case DType::kFloat32: to.as<float>()[i] = static_cast<float>(const_double(n)); break;
        case DType::kInt64: to.as<std::int64_t>()[i] = const_int(n); break;
        case DType::kInt32: to.as<std::int32_t>()[i] = static_cast<std::int32_t>(const_int(n)); break;
        default: to.as<bool>()[i] = const_int(n) != 0; break;
      }
    }
  }
  parts.xs.push_back(buffer(d, std::span(&count, 1), std::move(data)));
  parts.row_params.push_back(symbol(d, {}));
  return parts.row_params.back();
}

// Who refers to the operations of a trace, beside the user's handles: other operations, and `values` that the caller holds. Of
// those from a place on.
class Above {
 public:
  Above(const Trace& trace, std::size_t from, std::span<const UOp> values)
      : trace_(trace), from_(from), values_(trace.size() - from, 0) {
    const TraceIndex index(trace, from);
    users_ = index.users();
    for (const UOp& v : values)
      if (const auto at = index.at(v.get()); at != TraceIndex::kNone) ++values_[at - from];
  }

  // The operation and all that reaches it, with those references.
  std::vector<Accounted> operator()(std::size_t operation) const {
    std::vector<Accounted> out;
    std::vector<std::uint32_t> todo{static_cast<std::uint32_t>(operation - from_)};
    NodeMap<char> seen;
    while (!todo.empty()) {
      const std::uint32_t i = todo.back();
      todo.pop_back();
      Node* x = trace_[from_ + i].node.get();
      if (!seen.insert(x, 1)) continue;
      const std::uint32_t first = users_.first[i], last = users_.first[i + 1];
      out.push_back({x, last - first + values_[i] + 1});
      // A node that has become a copy meanwhile refers to others than it did.
      for (std::uint32_t k = first; k < last; ++k)
        if (const auto src = trace_[users_.read_by[k]].node->src(); std::ranges::find(src, x) != src.end())
          todo.push_back(static_cast<std::uint32_t>(users_.read_by[k] - from_));
    }
    return out;
  }

 private:
  const Trace& trace_;
  std::size_t from_;
  std::vector<std::uint32_t> values_;  // references of the caller's
  TraceIndex::Users users_;
};

// One repetition on its way to a SCAN.
class Fold {
 public:
  Fold(const Trace& trace, const Repetition& r) : trace_(trace), r_(r), passes_(r.passes - kLeftAlone) {}

  // The SCAN, and which of its outputs each value that is needed is. False: nothing is needed, or too much; or nothing goes from
  // one pass to the next, unless passes `may_be_apart`.
  bool build(bool may_be_apart) {
    parts_.index = symbol(DType::kInt64, {});
    parts_.steps = constant_int(static_cast<std::int64_t>(passes_));
    for (std::size_t place = 0; place < r_.length; ++place)
      for (std::size_t s = 0; s < r_.sources[place].size(); ++s)
        if (const PassSource& from = r_.sources[place][s]; from.kind == PassSource::kEarlier)
          if (!slot(from.place, from.lag, place, s)) return false;
    if (slots_.empty() && !may_be_apart) return false;
    find_needed();
    if (needed_.empty()) return false;
    for (std::size_t place = 0; place < r_.length; ++place) values_.push_back(operation(place));
    for (const auto& [key, number] : slots_)
      parts_.next[number] =
          key.second == 1 ? values_[key.first] : parts_.carry_params[slots_.at({key.first, key.second - 1})];
    double stacked = 0;
    for (Needed& n : needed_) {
      const UOp& value = values_[n.place];
      if (!n.rows.empty()) {
        stacked += static_cast<double>(passes_) * static_cast<double>(bytes_of(value->dtype, value->shape()));
        n.out = parts_.outs.size();
        parts_.outs.push_back(value);
      }
      if (std::ranges::find(n.last, 1u) == n.last.end() || slots_.contains({n.place, 1})) continue;
      slots_[{n.place, 1}] = parts_.carry.size();
      parts_.carry.push_back(zeros_like(value));
      parts_.carry_params.push_back(symbol_like(value.get()));
      parts_.next.push_back(value);
    }
    if (stacked > kMostStacked) return false;
    lines_ = lines_of(trace_, r_, location_);
    const LocationScope at(location_);
    scan_ = make_scan(parts_);
    return true;
  }

  // Afterwards what is needed is an output of the SCAN: computed now, or left for later where that SCAN is all there is to
  // compute, so that it takes up the passes to come: what is left joins `rest`.
  void settle(std::span<const UOp> values, Trace& rest) {
    const Above above(trace_, first_needed(), values);
    label(scan_);
    whole_ = merged();
    if (may_wait()) {
      // What all passes take from outside is computed once; else it would be with each scan of some passes.
      std::vector<UOp> outside;
      for (Node* n : ScanView(whole_.get()).captured())
        if (!is_there(n)) outside.push_back(UOp::share(n));
      if (!outside.empty()) engine().realize(outside);
      if (std::ranges::all_of(whole_->src(), is_there) && put_off(above, rest)) return;
    }
    std::vector<UOp> wanted;
    for (const Needed& n : needed_) {
      for (const std::uint32_t lag : n.last) wanted.push_back(last_of(scan_, n, lag));
      if (!n.rows.empty()) wanted.push_back(rows_of(n));
    }
    engine().realize(wanted);
    std::vector<UOp> dropped;
    const ComputeLock lock;
    let_go();  // what was computed here knows then whether its past is asked for
    const auto give = [&](std::size_t at, StorageRef value, const UOp& source) {
      Node* n = trace_[at].node.get();
      const std::vector<Accounted> users = above(at);
      (void)become_copy(n, source, users, dropped);
      set_storage(n, std::move(value));
      note_realized(n, users, dropped);
    };
    for (const Needed& n : needed_) {
      for (const std::uint32_t lag : n.last) {
        const UOp value = last_of(scan_, n, lag);
        give(r_.at(passes_ - lag, n.place), StorageRef::share(storage(value.get())), value);
      }
      if (n.rows.empty()) continue;
      const UOp all = rows_of(n);
      const UOp& model = values_[n.place];
      const std::size_t bytes = bytes_of(model->dtype, model->shape());
      const HostRead from(*storage(all.get()));
      for (const std::size_t pass : n.rows) {
        StorageRef row = allocate(model->dtype, model->shape());
        if (bytes)
          std::memcpy(HostWrite(*row).data(), static_cast<const char*>(from.data()) + pass * bytes, bytes);
        row->origin = storage(all.get())->origin;
        give(r_.at(pass, n.place), std::move(row), index_axis(all, 0, static_cast<std::int64_t>(pass)));
      }
    }
  }

  std::size_t passes() const { return passes_; }
  const std::string& lines() const { return lines_; }
  // Why the passes before are not folded with these, for explain().
  void set_behind(std::string why) { behind_ = std::move(why); }

 private:
  // An operation of which values are needed: of single passes, of the last ones.
  struct Needed {
    std::size_t place;
    std::vector<std::size_t> rows;
    std::vector<std::uint32_t> last;  // counted from the end: 1 is the last pass; each is in the carry
    std::size_t out = 0;
  };

  void find_needed() {
    // How often an operation is read within the passes that are folded: by its own pass, and by those after it.
    std::vector<std::vector<std::uint32_t>> readers(r_.length);  // by how many passes later
    for (const auto& of_user : r_.sources)
      for (const PassSource& from : of_user) {
        if (from.kind != PassSource::kLocal && from.kind != PassSource::kEarlier) continue;
        auto& of = readers[from.place];
        if (of.size() <= from.lag) of.resize(from.lag + 1, 0);
        ++of[from.lag];
      }
    for (std::size_t place = 0; place < r_.length; ++place) {
      const auto within = [&](std::size_t pass) {
        const std::size_t lags = std::min(readers[place].size(), passes_ - pass);
        return std::accumulate(readers[place].begin(),
                               readers[place].begin() + static_cast<std::ptrdiff_t>(lags), 0u);
      };
      Needed n{place, {}, {}};
      for (std::size_t pass = 0; pass < passes_; ++pass) {
        const Node* node = trace_[r_.at(pass, place)].node.get();
        const bool held = node->refs.handles() > 0;
        if (!held && node->refs.load() == within(pass) + 1) continue;
        const auto lag = static_cast<std::uint32_t>(passes_ - pass);
        if (lag == 1 || slots_.contains({place, lag}))
          n.last.push_back(lag);
        else if (held)  // others can be made again from what is below
          n.rows.push_back(pass);
      }
      if (!n.last.empty() || !n.rows.empty()) needed_.push_back(std::move(n));
    }
  }

  std::size_t first_needed() const {
    std::size_t pass = passes_;
    for (const Needed& n : needed_) {
      if (!n.rows.empty()) pass = std::min(pass, n.rows.front());
      for (const std::uint32_t lag : n.last) pass = std::min<std::size_t>(pass, passes_ - lag);
    }
    return r_.at(pass, 0);
  }

  // The carry that holds the value of `place` of `lag` passes before, read by source s of `user`.
  bool slot(std::uint32_t place, std::uint32_t lag, std::size_t user, std::size_t s) {
    for (std::uint32_t l = 1; l <= lag; ++l) {
      // In pass lag - l the reader reads what was `l` passes before the first one.
      Node* before = trace_[r_.at(lag - l, user)].node->src(s);
      const auto [it, fresh] = slots_.try_emplace({place, l}, parts_.carry.size());
      if (!fresh) {
        if (parts_.carry[it->second].get() != before) return false;
        continue;
      }
      parts_.carry.push_back(UOp::share(before));
      parts_.carry_params.push_back(symbol_like(before));
      parts_.next.emplace_back();
    }
    return true;
  }

  UOp operation(std::size_t place) {
    const Node* model = trace_[r_.at(0, place)].node.get();
    std::vector<Node*> sources;
    std::vector<UOp> held;
    for (std::size_t s = 0; s < model->n_src; ++s) {
      const PassSource& from = r_.sources[place][s];
      switch (from.kind) {
        case PassSource::kLocal: held.push_back(values_[from.place]); break;
        case PassSource::kEarlier:
          held.push_back(parts_.carry_params[slots_.at({from.place, from.lag})]);
          break;
        case PassSource::kFixed: held.push_back(UOp::share(model->src(s))); break;
        case PassSource::kNumber: {
          std::vector<const Node*> numbers;
          for (std::size_t pass = 0; pass < passes_; ++pass)
            numbers.push_back(trace_[r_.at(pass, place)].node->src(s));
          UOp& known = numbers_[numbers];
          if (!known) known = number_of_pass(numbers, parts_);
          held.push_back(known);
          varies_ = true;
          break;
        }
      }
      sources.push_back(held.back().get());
    }
    const LocationScope at(trace_[r_.at(0, place)].location);
    UOp out = with_sources(model, sources);
    if (Labels labels = labels_of(model); labels.any()) set_labels(out.get(), std::move(labels));
    return out;
  }

  UOp last_of(const UOp& scan, const Needed& n, std::uint32_t lag) const {
    return get(scan, static_cast<std::int64_t>(slots_.at({n.place, lag})));
  }
  UOp rows_of(const Needed& n) const {
    return get(scan_, static_cast<std::int64_t>(parts_.carry.size() + n.out));
  }

  void label(const UOp& scan) const {
    Labels labels = labels_of(scan.get());
    labels.folded = lines_;
    labels.behind = behind_;
    set_labels(scan.get(), std::move(labels));
  }

  // Where the carry comes from a fold of the same passes that waits to be computed, one SCAN over both.
  UOp merged() const {
    if (varies_ || !parts_.outs.empty()) return scan_;
    const ScanView now(scan_.get());
    UOp before;
    for (std::size_t i = 0; i < now.n_carry && !before; ++i)
      if (is_output(now.carry()[i], i)) before = UOp::share(now.carry()[i]->src(0)->src(0));
    if (!before) return scan_;
    const ScanView then(before.get());
    if (then.body() != now.body() || !is_const(then.steps()) ||
        !std::ranges::equal(then.node->arg(), now.node->arg()) ||
        !std::ranges::equal(then.captured(), now.captured()))
      return scan_;
    for (std::size_t i = 0; i < now.n_carry; ++i) {
      Node* c = now.carry()[i];
      if (!(is_output(c, i) && c->src(0)->src(0) == before.get()) && c != then.carry()[i]) return scan_;
    }
    std::vector<UOp> src;
    for (Node* s : before->src()) src.push_back(UOp::share(s));
    src[1] = constant_int(const_int(then.steps()) + static_cast<std::int64_t>(passes_));
    const LocationScope at(location_);
    UOp all = make(Op::SCAN, std::span<const UOp>(src), before->arg());
    label(all);
    return all;
  }
  // Output i of a SCAN that has not been computed.
  static bool is_output(const Node* n, std::size_t i) {
    return is_copy(n) && !storage(n) && !storage(n->src(0)) && n->src(0)->op == Op::GET &&
           n->src(0)->src(0)->op == Op::SCAN && n->src(0)->arg(0) == static_cast<std::int64_t>(i);
  }
  // Whether the passes to come can join these: their numbers are the same, and no rows are kept.
  bool may_wait() const { return !varies_ && parts_.outs.empty(); }
  static bool is_there(const Node* n) {
    return n->op == Op::LAMBDA || storage(n) || (is_copy(n) && storage(n->src(0))) ||
           !(n->flags & Node::kHasBuffer);
  }
  bool put_off(const Above& above, Trace& rest) {
    std::vector<UOp> dropped;
    const ComputeLock lock;
    for (const Needed& n : needed_) {
      for (const std::uint32_t lag : n.last) {
        const std::size_t at = r_.at(passes_ - lag, n.place);
        if (!become_copy(trace_[at].node.get(), last_of(whole_, n, lag), above(at), dropped)) return false;
        rest.push_back(trace_[at]);
      }
    }
    return true;
  }

  const Trace& trace_;
  const Repetition& r_;
  std::size_t passes_;
  ScanParts parts_;
  std::map<std::pair<std::size_t, std::uint32_t>, std::size_t> slots_;  // (place, lag) -> carry
  std::vector<UOp> values_;  // of a pass, over the symbols of the body
  std::map<std::vector<const Node*>, UOp> numbers_;
  std::vector<Needed> needed_;
  bool varies_ = false;
  std::string lines_, behind_;
  std::uint32_t location_ = 0;
  UOp scan_, whole_;  // of these passes; with those before that are not computed
};

// Whether the first of these passes takes up what one before left.
bool goes_on(const Trace& trace, const Repetition& r) {
  for (std::size_t place = 0; place < r.length; ++place)
    for (std::size_t s = 0; s < r.sources[place].size(); ++s) {
      const PassSource& from = r.sources[place][s];
      if (from.kind != PassSource::kEarlier) continue;
      const Node* before = trace[r.at(0, place)].node->src(s);
      for (std::size_t at = 0; at < r.first; ++at)
        if (trace[at].node.get() == before && trace[at].location == trace[r.at(0, from.place)].location)
          return true;
    }
  return false;
}

// What the user holds of a trace that does not repeat.
void compute_held(const Trace& trace) {
  std::vector<UOp> held;
  for (const auto& o : trace)
    if (o.node->refs.handles() > 0 && !storage(o.node.get())) held.push_back(o.node);
  if (!held.empty()) realize_once(held);
}

// What was left for later by a fold and has been computed meanwhile is a value like others, without that loop in its past.
void take_values(Trace& trace, std::span<const UOp> values) {
  const auto has_value = [](const PendingTrace::Operation& o) {
    return is_copy(o.node.get()) && storage(o.node->src(0));
  };
  const auto first = std::ranges::find_if(trace, has_value);
  if (first == trace.end()) return;
  const Above above(trace, static_cast<std::size_t>(first - trace.begin()), values);
  std::vector<UOp> dropped;
  const ComputeLock lock;
  let_go();
  for (std::size_t i = 0; i < trace.size(); ++i) {
    if (!has_value(trace[i])) continue;
    Node* n = trace[i].node.get();
    set_storage(n, StorageRef::share(storage(n->src(0))));
    note_realized(n, above(i), dropped);
  }
  std::erase_if(trace, [](const auto& o) { return storage(o.node.get()); });
}

// The loop that this thread folded last: passes are counted from its beginning, by the numbers of their operations.
struct LoopSeen {
  std::string lines;
  Repetition passes_seen;      // as they were folded: how the trace is likely to go on
  std::uint64_t per_pass = 0;  // and how many were recorded
  std::uint64_t begin = 0,
                next = 0;  // the first operation of pass `passes` + 1; the first that is not folded
  std::int64_t passes = 0;
  bool exact = true;    // all passes recorded as many operations
  std::string differs;  // what ended it, as far as is known

  // More passes of it, or those of another one. What came between is put into words.
  void follow(const Trace& trace, const Repetition& r, const std::string& new_lines, bool goes_on,
              Fold& fold) {
    const std::uint64_t first = trace[r.first].number;
    const std::uint64_t per = trace[r.at(1, 0)].number - first;
    if (!goes_on || lines != new_lines || per_pass != per || first < next) {
      *this = {.lines = new_lines,
               .passes_seen = {},
               .per_pass = per,
               .begin = first,
               .next = first,
               .passes = 0,
               .exact = true,
               .differs = {}};
    } else if (first != next) {
      exact = exact && (first - next) % per == 0;
      fold.set_behind(differs);
    }
    differs.clear();
    passes += static_cast<std::int64_t>((first - begin) / per);
    begin += (first - begin) / per * per;
  }
  void ends(const Trace& trace, const Repetition& r) {
    if (r.differs.empty()) return;
    const auto pass = passes + static_cast<std::int64_t>((trace[r.differs_at].number - begin) / per_pass) + 1;
    differs = (exact ? fmt::format("pass {}", with_commas(pass)) : "a pass") + " differs: " + r.differs;
  }
};
thread_local LoopSeen loop_seen;
std::size_t go_on() {
  return kFewPasses * loop_seen.passes_seen.length > kGoOn ? std::numeric_limits<std::size_t>::max() : kGoOn;
}

// `enough`: fewer are left alone. `odd`: what does not repeat is computed, where it is more than that. `full`: there are as many as
// may be; otherwise a few equal expressions side by side are no loop. Whether a loop was folded.
bool fold_trace(std::size_t enough, std::size_t odd, bool full, std::span<const UOp> values) {
  Trace trace = PendingTrace::take_alive();
  bool folded = false;
  if (trace.size() > enough) {
    take_values(trace, values);
    std::string ended;
    Trace rest;
    std::size_t done = 0;
    const auto pass_over = [&](std::size_t to) {
      rest.insert(rest.end(), trace.begin() + static_cast<std::ptrdiff_t>(done),
                  trace.begin() + static_cast<std::ptrdiff_t>(to));
    };
    // In front is what was left for later, and what is older than the loop.
    const auto next = std::ranges::find_if(trace, [](const auto& o) { return o.number >= loop_seen.next; });
    Repetition more =
        more_passes(trace, loop_seen.passes_seen, static_cast<std::size_t>(next - trace.begin()));
    const bool known = more.passes > 0;
    std::vector<Repetition> repetitions;
    if (known)
      repetitions.push_back(std::move(more));
    else
      repetitions = find_repetitions(trace, TraceIndex(trace), loop_seen.passes_seen.length);
    for (Repetition& r : repetitions) {
      ended = r.differs;
      const Repetition found = r;
      if (!known) cut_at_fewest(trace, r);
      if (r.passes <= kLeftAlone + 1) {
        if (r.length == loop_seen.passes_seen.length && found.first == 0) loop_seen.ends(trace, found);
        continue;
      }
      Fold fold(trace, r);
      if (!fold.build(full)) continue;
      pass_over(r.first);
      loop_seen.follow(trace, found, fold.lines(), goes_on(trace, found), fold);
      loop_seen.ends(trace, found);
      fold.settle(values, rest);
      folded = true;
      done = r.at(fold.passes(), 0);
      loop_seen.next = trace[done].number;
      loop_seen.passes_seen = std::move(r);
      if (debug_enabled(2, "graph"))
        debug_print(2, "graph",
                    fmt::format("folded {} passes of {} into a scan", fold.passes(), fold.lines()));
    }
    pass_over(trace.size());
    PendingTrace::keep(rest);
    rest.clear();
    trace.clear();  // those that nobody uses any more go
    trace = PendingTrace::take_alive();
    if (trace.size() > odd) {
      static std::once_flag said;
      if (debug_enabled(1, "graph"))
        std::call_once(said, [&] {
          debug_print(1, "graph",
                      fmt::format("{} pending operations repeat too little to be folded into a loop and are "
                                  "computed as they are; the first that differs: {}",
                                  trace.size(), ended.empty() ? "none repeats" : ended));
        });
      compute_held(trace);
      trace.clear();
    }
  }
  PendingTrace::keep(trace);
  return folded;
}

[[maybe_unused]] const bool registered = [] {
  PendingTrace::set(fold_pending);
  return true;
}();

}  // namespace

std::size_t fold_pending(std::size_t limit, std::span<const UOp> values) noexcept {
  const std::size_t most = env::pending();
  thread_local bool going_on = false;  // a loop was found when this thread was last looked at
  const std::size_t look = std::min(most, going_on ? go_on() : most);
  try {
    if (env::fold())
      going_on = fold_trace((limit == 0 ? look : std::min(limit, most)) / 2,
                            limit == 0 ? most / 2 : std::min(most, kOdd), limit == 0, values);
    else
      PendingTrace::keep({});
  } catch (...) {
    // Whoever asks for the values meets the error where it can be told.
  }
  return going_on ? std::min(most, go_on()) : most;
}

}  // namespace tinyphys
