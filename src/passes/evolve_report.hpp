// What explain() says of an evolution: what was asked for, what is proved of its energy, and what its run decided.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "derive/way_back.hpp"
#include "passes/conserved.hpp"
#include "passes/loop_lift.hpp"
#include "support/records.hpp"
#include "uop/build.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {

// Holds no data of the evolution, so that it may outlive its graph.
class EvolveNotes final : public Notes {
 public:
  // `run`: what the Guard of its jump has noted; null before it has run, and where there was no Guard.
  // `where` and `labels` of the use, where the node is not the one that the user recorded. An EVOLVE_VJP: the way back.
  EvolveNotes(Node* evolve, std::shared_ptr<const Notes> run, std::string where, Labels labels);
  void report(Records& to) const override;

 private:
  bool reads_states() const;

  std::string where_;
  Labels labels_;
  std::shared_ptr<const Notes> run_;
  EvolveRecord record_;
  std::optional<std::int64_t> steps_;
  std::optional<double> dt_;
  std::string state_;
  std::int64_t members_ = 0;  // of an ensemble
  bool back_ = false, symmetric_ = false;
  std::size_t tape_bytes_ = 0;      // of a step
  std::optional<WayBack> way_;      // of a gradient, where the number of steps is known
  std::vector<std::string> names_;  // of H's params
  UOp energy_;
  Records split_;  // of Method::Split
  Records fast_;   // of levels
  std::shared_ptr<const EnergyProof> proof_;
  std::shared_ptr<const ConservationProof> conserved_;
};

}  // namespace tinyphys
