// A plain loop in a trace: operations that come again and again, each pass over the values of the passes before.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "uop/pending.hpp"

namespace tinyphys {

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
  std::string ended;  // why it ended where it did, for debugging; empty at the end of the trace

  std::size_t at(std::size_t pass, std::size_t place) const { return first + pass * length + place; }
  std::size_t end() const { return first + passes * length; }
};

// Repetitions of the trace in order, without overlap; each of some passes at least. Proved by isomorphism: the operations,
// their args, dtypes and lines are the same in all passes, and so is where their sources come from.
std::vector<Repetition> find_repetitions(const std::vector<PendingTrace::Operation>& trace);

}  // namespace tinyphys
