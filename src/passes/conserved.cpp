#include "passes/conserved.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "analysis/symmetry.hpp"
#include "analysis/terms.hpp"
#include "passes/loop_lift.hpp"
#include "passes/proof_cache.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

constexpr const char* kAxisNames[] = {"x", "y", "z"};

std::string change_text(const StateChange& c) {
  switch (c.kind) {
    case StateChange::Kind::kShift:
      return c.in_line ? "translation" : std::string("translation along ") + kAxisNames[c.first];
    case StateChange::Kind::kRotate:
      return std::string("rotation about ") + kAxisNames[3 - c.first - c.second];
    case StateChange::Kind::kMirror: return "q -> -q";
  }
  return "?";
}

std::string conserved_text(const StateChange& c) {
  if (c.kind == StateChange::Kind::kRotate)
    return std::string("angular momentum ") + kAxisNames[3 - c.first - c.second];
  return c.in_line ? "momentum" : std::string("momentum ") + kAxisNames[c.first];
}

std::string proof_text(const Symmetry& s) {
  std::string text = fmt::format("identity test in F_p for 2 random primes p, error < {:.0e}",
                                 std::max(s.error_probability, 1e-300));
  if (s.needed_values) text += ", for the numbers that H has";
  if (s.through.empty()) return text;
  text += "; the arguments of ";
  for (std::size_t i = 0; i < s.through.size(); ++i)
    text += (i == 0 ? "" : i + 1 == s.through.size() ? " and " : ", ") + s.through[i];
  return text + " are invariant by the same test";
}

ConservationProof prove(const Node* evolve) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  ConservationProof out;
  if (!record.timed)
    out.invariants.push_back({ProvenInvariant::Kind::kEnergy, 0,
                              "energy is conserved by the flow: H does not depend on the time", 0});
  // What is simplified holds for real numbers, and so do symmetries.
  const auto energy = prove_energy(evolve);
  std::vector<std::string> names{"q", "p"};
  for (const Symmetry& s :
       find_symmetries(energy->energy.get(), numbers_of(evolve, energy->taken_out), e.q()->shape(),
                       static_cast<std::size_t>(record.batch_axes), names)) {
    const std::string change = change_text(s.change);
    if (!s.holds) {
      out.refused.push_back(change + ": " + s.reason);
      continue;
    }
    if (s.change.kind == StateChange::Kind::kMirror) {
      out.even = true;
      continue;
    }
    const bool turns = s.change.kind == StateChange::Kind::kRotate;
    const auto axis = static_cast<int>(turns ? 3 - s.change.first - s.change.second : s.change.first);
    out.invariants.push_back(
        {turns ? ProvenInvariant::Kind::kAngularMomentum : ProvenInvariant::Kind::kMomentum, axis,
         conserved_text(s.change) + " is conserved: H is invariant under " + change + ", " + proof_text(s),
         s.error_probability});
  }
  return out;
}

}  // namespace

std::shared_ptr<const ConservationProof> prove_conserved(const Node* evolve) {
  static auto* cache = new ProofCache<ConservationProof>;  // outlives static handles
  const EvolveView e(evolve);
  std::vector<UOp> parts{UOp::share(e.energy()), param(0, e.q()->dtype, e.q()->shape())};
  for (Node* n : e.captured()) parts.push_back(is_const(n) ? UOp::share(n) : UOp::share(e.energy()));
  const EvolveRecord record = e.record();
  const UOp key = make(Op::SINK, std::span<const UOp>(parts),
                       std::initializer_list<std::int64_t>{record.batch_axes, record.timed});
  if (auto known = cache->find(key)) return known;
  auto proof = std::make_shared<const ConservationProof>(prove(evolve));
  cache->keep(key, proof);
  return proof;
}

UOp split_by_terms(const Node* evolve) {
  const EvolveView e(evolve);
  std::vector<StateGroup> groups(static_cast<std::size_t>(e.energy()->arg(0)), StateGroup::kNone);
  groups[0] = StateGroup::kQ;
  groups[1] = StateGroup::kP;
  std::vector<NamedOutput> outputs;
  for (std::size_t i = 0; i < e.energy()->n_src; ++i) outputs.push_back({"", UOp::share(e.energy()->src(i))});
  UOp kinetic, potential;
  for (const Term& t : find_terms(outputs, groups).list) {
    if (t.joins_q_and_p()) return {};
    UOp& sum = t.degree.p > 0 ? kinetic : potential;  // what depends on neither belongs to the potential
    sum = sum ? add(sum, t.value) : t.value;
  }
  for (UOp* part : {&kinetic, &potential})
    if (!*part) *part = constant(0.0);
  return with_outputs(e.energy(), std::vector<UOp>{kinetic, potential});
}

void report_conserved(const ConservationProof& proof, Records& to) {
  const bool timed = proof.invariants.empty() || proof.invariants[0].what != ProvenInvariant::Kind::kEnergy;
  if (proof.invariants.size() + timed < 2) return;
  for (const ProvenInvariant& i : proof.invariants) {
    Record r{Finding::kProved, i.how};
    if (i.error_probability > 0) r.numbers = {{"error_probability", i.error_probability}};
    to.push_back(std::move(r));
  }
  if (proof.even) to.push_back({Finding::kProved, "H is even in q: the mirror image of a motion is one"});
}

}  // namespace tinyphys
