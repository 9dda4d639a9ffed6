#include "derive/way_back.hpp"

#include <algorithm>
#include <cmath>

#include "derive/shears.hpp"
#include "support/env.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr std::int64_t kBlockSteps = 128;
constexpr double kBlockBytes = 0x1p24;
// Checkpoints keep so many states, whatever the steps, or as many as lie in so few bytes that nobody sees them ...
constexpr double kMostStates = 1000, kSmallBytes = 0x1p20;
// ... and this many even where they are larger than TINYPHYS_TAPE: fewer would save little and cost many passes.
constexpr double kLeastStates = 64;

// The least c with c^levels >= steps.
std::int64_t root_above(std::int64_t steps, int levels) {
  auto c = static_cast<std::int64_t>(std::pow(static_cast<double>(steps), 1.0 / levels));
  const auto reaches = [&](std::int64_t x) {
    double p = 1;
    for (int i = 0; i < levels; ++i) p *= static_cast<double>(x);
    return p >= static_cast<double>(steps);
  };
  c = std::max<std::int64_t>(c - 1, 2);
  while (!reaches(c)) ++c;
  return c;
}

// States that are kept at a time: where blocks begin on each level, and the tape of an innermost one.
std::int64_t kept_states(std::int64_t steps, int levels, std::int64_t base) {
  std::int64_t blocks = steps;
  for (int i = 1; i < levels; ++i) blocks /= base;
  return blocks + (levels - 1) * base;
}

// A base near the least one that leaves few pieces over, each is a program of its own, and keeps at most so many states; 0
// where there is none.
std::int64_t even_base(std::int64_t steps, int levels, double most) {
  const std::int64_t least = root_above(steps, levels);
  std::int64_t best = 0;
  int fewest = levels + 1;
  for (std::int64_t c = least; c <= least + least / 4; ++c) {
    int left_over = 0;
    std::int64_t rest = steps;
    for (int i = 1; i < levels; ++i, rest /= c) left_over += rest % c != 0;
    if (left_over >= fewest || static_cast<double>(kept_states(steps, levels, c)) > most) continue;
    fewest = left_over;
    best = c;
  }
  return best;
}

double bytes_of_states(const ScanParts& step) {
  double bytes = 0;
  for (const UOp& c : step.carry) bytes += static_cast<double>(bytes_of(c->dtype, c->shape()));
  return bytes;
}

// How many states checkpoints may keep: each set has a copy.
double most_checkpoints(double state_bytes) {
  const double small = kSmallBytes / (2 * std::max(state_bytes, 1.0)),
               fit = env::tape_bytes() / (2 * std::max(state_bytes, 1.0));
  return std::max(std::min(std::max(kMostStates, small), fit), kLeastStates);
}

WayBack with_sizes(const ScanParts& step) {
  WayBack w;
  w.steps = const_int(step.steps.get());
  w.state_bytes = bytes_of_states(step);
  w.kept = w.steps;
  w.bytes = 2 * w.state_bytes * static_cast<double>(w.kept);
  return w;
}

}  // namespace

WayBack checkpoints_of(const ScanParts& step) {
  WayBack w = with_sizes(step);
  if (w.steps <= 2) return w;
  w.kind = WayBack::Kind::kCheckpoints;
  const double most = most_checkpoints(w.state_bytes);
  for (w.levels = 2;; ++w.levels) {
    w.base = even_base(w.steps, w.levels, most);
    const bool last = root_above(w.steps, w.levels) <= 2;
    if (w.base == 0 && last) w.base = 2;
    if (w.base == 0) continue;
    w.kept = kept_states(w.steps, w.levels, w.base);
    w.bytes = 2 * w.state_bytes * static_cast<double>(w.kept);
    return w;
  }
}

WayBack choose_way_back(const ScanParts& step, bool may_undo) {
  const WayBack tape = with_sizes(step);
  const bool fits = tape.bytes <= env::tape_bytes(), asked = step.reversible == Reversible::Float,
             exact = step.reversible == Reversible::Exact;
  const WayBack kept = fits || step.reversible == Reversible::Tape ? tape : checkpoints_of(step);
  if (step.reversible == Reversible::Checkpoints) return checkpoints_of(step);
  const bool by_itself = step.method == Method::Auto && step.reversible == Reversible::Auto && !fits;
  if ((!asked && !by_itself && !exact) || tape.steps == 0) {
    WayBack w = kept;
    w.offers_undo = !fits && may_undo && env::optimize() && find_shears(step).found();
    return w;
  }
  WayBack w = tape;
  if (!may_undo) {
    w.refused = "the gradient stands in an energy or a step that is differentiated again";
  } else if (!env::optimize()) {
    w.refused = "TINYPHYS_OPT=0";
  } else {
    w.refused = find_shears(step).refused;
  }
  if (!w.refused.empty()) {
    WayBack other = kept;
    other.refused = w.refused;
    return other;
  }
  w.kind = exact ? WayBack::Kind::kFixedPoint : WayBack::Kind::kUndo;
  const double most = std::floor(kBlockBytes / std::max(w.state_bytes, 1.0));
  w.block = std::clamp<std::int64_t>(static_cast<std::int64_t>(std::min(most, 1e6)), 1,
                                     std::min(w.steps, kBlockSteps));
  // One that divides the steps, where there is one: what is left over is a program of its own.
  for (std::int64_t b = w.block; b > w.block / 2; --b)
    if (w.steps % b == 0) {
      w.block = b;
      break;
    }
  w.bytes = w.state_bytes * static_cast<double>(w.block);
  return w;
}

}  // namespace tinyphys
