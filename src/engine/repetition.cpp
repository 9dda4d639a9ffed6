#include "engine/repetition.hpp"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "support/hash.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// Fewer passes are not worth a scan.
constexpr std::size_t kFewestPasses = 8;
constexpr std::size_t kLongestPass = 1024;
// What is tried at each place of the trace: so many distances to the next operations of its kind.
constexpr std::size_t kCandidates = 12;
// Values of so many passes before can enter an operation.
constexpr std::size_t kMostLag = 4;
// Trials of a whole trace that may fail by what the sources are.
constexpr int kMostFailures = 64;

std::uint64_t signature(const PendingTrace::Operation& o) {
  const Node* n = o.node.get();
  std::uint64_t h = hash_mix(static_cast<std::uint64_t>(n->op), n->n_src * 64u + n->n_arg);
  h = hash_mix(h, o.location);
  for (const std::int64_t a : n->arg()) h = hash_mix(h, static_cast<std::uint64_t>(a));
  for (const std::int64_t d : n->shape()) h = hash_mix(h, static_cast<std::uint64_t>(d));
  return hash_mix(h, static_cast<std::uint64_t>(n->dtype));
}

bool same_kind(const Node* a, const Node* b) {
  return a->op == b->op && a->dtype == b->dtype && a->n_src == b->n_src && same_shape(a, b) &&
         same_words(a->arg(), b->arg());
}

constexpr std::size_t kSame = ~std::size_t{0}, kOther = kSame - 1;
// Which source of the operation is not as in the other passes; kOther: it is another operation altogether.
std::size_t difference(const Trace& trace, const Repetition& r, std::size_t pass, std::size_t place) {
  const auto node = [&](std::size_t p, std::size_t at) { return trace[r.at(p, at)].node.get(); };
  const Node *n = node(pass, place), *first = node(0, place);
  if (n->n_src != r.sources[place].size() ||
      trace[r.at(pass, place)].location != trace[r.at(0, place)].location || !same_kind(n, first))
    return kOther;
  for (std::size_t s = 0; s < n->n_src; ++s) {
    const PassSource& from = r.sources[place][s];
    const Node* source = n->src(s);
    switch (from.kind) {
      case PassSource::kLocal:
        if (source != node(pass, from.place)) return s;
        break;
      case PassSource::kEarlier:
        if (pass >= from.lag) {
          if (source != node(pass - from.lag, from.place)) return s;
        } else if (const Node* model = node(0, from.place);
                   source->dtype != model->dtype || !same_shape(source, model)) {
          return s;
        } else {
          for (std::size_t i = r.first; i < r.at(pass, place); ++i)
            if (trace[i].node.get() == source) return s;  // not from before
        }
        break;
      case PassSource::kFixed:
        if (source != first->src(s)) return s;
        break;
      case PassSource::kNumber:
        if (source->op != Op::CONST || source->dtype != first->src(s)->dtype) return s;
        break;
    }
  }
  return kSame;
}

class Finder {
 public:
  Finder(const Trace& trace, const TraceIndex& index, std::size_t going_on)
      : trace_(trace), index_(index), going_on_(going_on) {
    signs_.reserve(trace.size());
    for (const auto& o : trace) signs_.push_back(signature(o));
    next_.resize(trace.size(), trace.size());
    std::unordered_map<std::uint64_t, std::size_t> later;
    for (std::size_t i = trace.size(); i-- > 0;) {
      const auto [it, fresh] = later.try_emplace(signs_[i], i);
      if (fresh) continue;
      next_[i] = it->second;
      it->second = i;
    }
  }

  std::vector<Repetition> run() {
    std::vector<Repetition> found;
    for (std::size_t i = 0; i < trace_.size();) {
      Repetition r = best_at(i);
      if (r.passes == 0) {
        ++i;
        continue;
      }
      // What is behind passes that go on to the end of the trace is the beginning of the next one.
      i = r.differs.empty() ? trace_.size() : r.end();
      found.push_back(std::move(r));
    }
    return found;
  }

 private:
  Repetition best_at(std::size_t i) {
    if (i == 0 && going_on_ > 0)
      if (Repetition r = of_length(0, going_on_, 2); r.passes > 0) return r;
    std::size_t tried = 0;
    for (std::size_t next = next_[i]; next < trace_.size() && tried < kCandidates;
         next = next_[next], ++tried) {
      if (next - i > kLongestPass) break;
      if (Repetition r = of_length(i, next - i, kFewestPasses); r.passes > 0) return r;
      if (failures_ >= kMostFailures) break;
    }
    return {};
  }

  // The passes of this length from i on; none where they are less than `fewest`.
  Repetition of_length(std::size_t i, std::size_t length, std::size_t fewest) {
    if (i + fewest * length > trace_.size()) return {};
    // Signs that come again after this length, from i on; what was found from an earlier place serves here.
    std::size_t& end = same_until_[length];
    end = std::max(end, i);
    while (end + length < trace_.size() && signs_[end] == signs_[end + length]) ++end;
    const std::size_t passes = (end - i + length) / length;
    if (passes < fewest || failures_ >= kMostFailures) return {};
    Repetition r = proved(i, length, passes);
    if (r.passes < fewest) {
      ++failures_;
      return {};
    }
    if (r.differs.empty() && end + length < trace_.size()) {
      r.differs_at = end + length;
      r.differs =
          operation_text(trace_[end + length]) + " comes in the place of " + operation_text(trace_[end]);
    }
    return r;
  }

  // As many of these passes, from the first on, as are alike.
  Repetition proved(std::size_t first, std::size_t length, std::size_t passes) {
    Repetition r{first, length, passes, {}, 0, {}};
    for (std::size_t place = 0; place < length; ++place)  // a scan runs on one device
      if (trace_[r.at(0, place)].node->flags & Node::kCrosses) return {};
    // Read off a pass that all lags can be seen from.
    const std::size_t model = std::min(passes - 1, kMostLag);
    for (std::size_t place = 0; place < length; ++place) {
      const Node* n = trace_[r.at(model, place)].node.get();
      std::vector<PassSource> sources;
      for (std::size_t s = 0; s < n->n_src; ++s) sources.push_back(source_of(r, model, place, s));
      r.sources.push_back(std::move(sources));
    }
    // Passes that take nothing from each other are no loop.
    const bool carries = std::ranges::any_of(r.sources, [](const auto& of) {
      return std::ranges::any_of(of, [](const PassSource& s) { return s.kind == PassSource::kEarlier; });
    });
    if (!carries) return {};
    for (std::size_t pass = 0; pass < passes; ++pass)
      for (std::size_t place = 0; place < length; ++place)
        if (const std::size_t s = difference(trace_, r, pass, place); s != kSame) {
          r.passes = pass;
          r.differs_at = r.at(pass, place);
          r.differs = operation_text(trace_[r.differs_at]) +
                      (s == kOther ? " is another operation" : source_text(r, place, s));
          return r;
        }
    return r;
  }

  PassSource source_of(const Repetition& r, std::size_t pass, std::size_t place, std::size_t s) const {
    const Node* source = trace_[r.at(pass, place)].node->src(s);
    if (trace_[r.at(pass - 1, place)].node->src(s) == source) return {PassSource::kFixed};
    if (source->op == Op::CONST) return {PassSource::kNumber};
    const std::size_t at = index_.sources(r.at(pass, place))[s];
    if (at == TraceIndex::kNone || at < r.first || at >= r.at(pass, place))
      return {PassSource::kFixed};  // which will not hold
    const std::size_t from = (at - r.first) / r.length;
    return {from == pass ? PassSource::kLocal : PassSource::kEarlier,
            static_cast<std::uint32_t>((at - r.first) % r.length), static_cast<std::uint32_t>(pass - from)};
  }

  std::string source_text(const Repetition& r, std::size_t place, std::size_t s) const {
    const Node *now = trace_[r.differs_at].node->src(s), *first = trace_[r.at(0, place)].node->src(s);
    const auto number = [](const Node* n) {
      while (n->op == Op::EXPAND || n->op == Op::RESHAPE) n = n->src(0);
      return n->op == Op::CONST ? n : nullptr;
    };
    switch (r.sources[place][s].kind) {
      case PassSource::kFixed:
        if (const Node* a = number(first), *b = number(now); a && b)
          return fmt::format(" takes the number {}, which was {} in all passes before", number_text(b),
                             number_text(a));
        return " takes another value from outside the loop than in all passes before";
      case PassSource::kNumber: return " takes no number, as it does in all passes before";
      default: return " takes a value of another operation than in the passes before";
    }
  }
  static std::string number_text(const Node* n) {
    return is_float(n->dtype) ? fmt::format("{}", const_double(n)) : fmt::format("{}", const_int(n));
  }

  const Trace& trace_;
  const TraceIndex& index_;
  std::size_t going_on_;
  std::vector<std::uint64_t> signs_;
  std::vector<std::size_t> next_;                            // operation with the same sign
  std::unordered_map<std::size_t, std::size_t> same_until_;  // by length
  int failures_ = 0;
};

}  // namespace

TraceIndex::TraceIndex(const Trace& trace, std::size_t from) : from_(from) {
  for (std::size_t i = from; i < trace.size(); ++i)
    at_.insert(trace[i].node.get(), static_cast<std::uint32_t>(i));
  first_.reserve(trace.size() - from + 1);
  sources_.reserve(2 * (trace.size() - from));
  for (std::size_t i = from; i < trace.size(); ++i) {
    first_.push_back(static_cast<std::uint32_t>(sources_.size()));
    for (const Node* s : trace[i].node->src()) sources_.push_back(at(s));
  }
  first_.push_back(static_cast<std::uint32_t>(sources_.size()));
}

TraceIndex::Users TraceIndex::users() const {
  const std::size_t size = first_.size() - 1;
  std::vector<std::uint32_t> next(size, 0);
  for (const std::uint32_t s : sources_)
    if (s != kNone) ++next[s - from_];
  Users u{{0}, {}};
  for (std::uint32_t& n : next) {
    u.first.push_back(u.first.back() + n);
    n = u.first[u.first.size() - 2];
  }
  u.read_by.resize(u.first.back());
  for (std::size_t i = from_; i < from_ + size; ++i)
    for (const std::uint32_t s : sources(i))
      if (s != kNone) u.read_by[next[s - from_]++] = static_cast<std::uint32_t>(i);
  return u;
}

Repetition more_passes(const Trace& trace, const Repetition& before, std::size_t first) {
  Repetition r{first, before.length, 0, {}, 0, {}};
  if (r.length == 0 || first + 2 * r.length > trace.size()) return r;
  const std::size_t passes = (trace.size() - first) / r.length;
  r.sources = before.sources;
  for (std::size_t i = first; i < trace.size(); ++i) {
    const std::size_t pass = (i - first) / r.length, place = (i - first) % r.length;
    if ((trace[i].node->flags & Node::kCrosses) || difference(trace, r, pass, place) != kSame) return r;
  }
  r.passes = passes;
  return r;
}

void cut_at_fewest(const Trace& trace, Repetition& r) {
  constexpr std::size_t kMostOperations = 128;  // every cut is tried
  if (r.length > kMostOperations || r.passes < 2) return;
  // Where an operation at `place` lies when the passes begin at `cut`: passes later, and its place there.
  const auto passes_later = [](std::size_t place, std::size_t cut) { return place < cut ? 0u : 1u; };
  const auto lag_at = [&](const PassSource& from, std::size_t user, std::size_t cut) {
    return from.lag + passes_later(user, cut) - passes_later(from.place, cut);
  };
  const auto is_operation = [](const PassSource& from) {
    return from.kind == PassSource::kLocal || from.kind == PassSource::kEarlier;
  };
  std::size_t best = 0;
  std::int64_t fewest = 0;
  std::vector<std::uint32_t> held(r.length);
  for (std::size_t cut = 0; cut < r.length; ++cut) {
    std::ranges::fill(held, 0u);
    for (std::size_t user = 0; user < r.length; ++user)
      for (const PassSource& from : r.sources[user])
        if (is_operation(from)) held[from.place] = std::max(held[from.place], lag_at(from, user, cut));
    std::int64_t elements = 0;
    for (std::size_t place = 0; place < r.length; ++place)
      elements += held[place] * trace[r.at(0, place)].node->size();
    if (cut == 0 || elements < fewest) {
      best = cut;
      fewest = elements;
    }
  }
  if (best == 0) return;
  for (std::size_t user = 0; user < r.length; ++user)
    for (PassSource& from : r.sources[user]) {
      if (!is_operation(from)) continue;
      from.lag = lag_at(from, user, best);
      from.kind = from.lag == 0 ? PassSource::kLocal : PassSource::kEarlier;
      from.place = static_cast<std::uint32_t>((from.place + r.length - best) % r.length);
    }
  std::ranges::rotate(r.sources, r.sources.begin() + static_cast<std::ptrdiff_t>(best));
  r.first += best;
  --r.passes;
}

std::string operation_text(const PendingTrace::Operation& o) {
  const std::string at = location_text(o.node.get());
  return fmt::format("{} {}{}{}", name(o.node->op), name(o.node->dtype), shape_text(o.node->shape()),
                     at.empty() ? "" : " at " + at);
}

std::vector<Repetition> find_repetitions(const Trace& trace, const TraceIndex& index, std::size_t going_on) {
  return Finder(trace, index, going_on).run();
}

}  // namespace tinyphys
