// A plain loop in a trace: operations that come again and again, each pass over the values of the passes before.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "uop/graph.hpp"
#include "uop/pending.hpp"

namespace tinyphys {

using Trace = std::vector<PendingTrace::Operation>;

// Which operations of a trace read which, as of when it was made; of those from a place on.
class TraceIndex {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  explicit TraceIndex(const Trace& trace, std::size_t from = 0);
  // Its place in the trace, or kNone.
  std::uint32_t at(const Node* n) const {
    const std::uint32_t* i = at_.find(n);
    return i ? *i : kNone;
  }
  // The places of the sources of operation i; kNone for those that are not among these operations.
  std::span<const std::uint32_t> sources(std::size_t i) const {
    return {sources_.data() + first_[i - from_], sources_.data() + first_[i - from_ + 1]};
  }
  // For each operation those that read it: read_by[first[i]] up to read_by[first[i + 1]], where 0 is the first of these.
  struct Users {
    std::vector<std::uint32_t> first, read_by;
  };
  Users users() const;

 private:
  std::size_t from_;
  NodeMap<std::uint32_t> at_;
  std::vector<std::uint32_t> first_, sources_;
};

// Where a source of an operation comes from, the same way in every pass.
struct PassSource {
  enum Kind : std::uint8_t {
    kLocal,    // operation `place` of the same pass
    kEarlier,  // operation `place`, `lag` passes before
    kFixed,    // one node for all passes
    kNumber    // a CONST that differs from pass to pass
  } kind;
  std::uint32_t place = 0, lag = 0;
};

struct Repetition {
  std::size_t first = 0;   // in the trace
  std::size_t length = 0;  // operations of a pass
  std::size_t passes = 0;
  std::vector<std::vector<PassSource>> sources;  // of each operation of a pass
  // The first operation that is not as in the passes before, and what differs: none at the end of the trace.
  std::size_t differs_at = 0;
  std::string differs;

  std::size_t at(std::size_t pass, std::size_t place) const { return first + pass * length + place; }
  std::size_t end() const { return first + passes * length; }
};

// The same loop with its passes cut elsewhere, where the fewest elements go from one pass to the next: the trace may begin in
// the middle of a pass. It may lose one pass.
void cut_at_fewest(const Trace& trace, Repetition& r);

// Repetitions of the trace in order, without overlap; each of some passes at least. Proved by isomorphism: the operations,
// their args, dtypes and lines are the same in all passes, and so is where their sources come from.
// `going_on`: operations of a pass of the loop that the trace is likely to begin with; two passes of it are enough.
std::vector<Repetition> find_repetitions(const Trace& trace, const TraceIndex& index, std::size_t going_on);

// The passes of a loop that was found before, where nothing else follows from operation `first` to the end of the trace; else
// none. For a loop that goes on, much less work than to find it.
Repetition more_passes(const Trace& trace, const Repetition& before, std::size_t first);

// "MUL float64[3] at main.cpp:22".
std::string operation_text(const PendingTrace::Operation& o);

}  // namespace tinyphys
