// What explain() says of an evolution: what was asked for, what is proved of its energy, and what its run decided.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "passes/loop_lift.hpp"
#include "support/records.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {

// Holds no data of the evolution, so that it may outlive its graph.
class EvolveNotes final : public Origin {
 public:
  // `run`: what the Guard of its jump has noted; null before it has run, and where there was no Guard.
  EvolveNotes(const Node* evolve, std::shared_ptr<const Origin> run);
  void report(Records& to) const override;

 private:
  EvolveRecord record_;
  std::optional<std::int64_t> steps_;
  std::optional<double> dt_;
  std::string state_, where_;
  std::vector<std::string> names_;  // of H's params
  Labels labels_;
  UOp energy_;
  std::shared_ptr<const EnergyProof> proof_;
  std::shared_ptr<const Origin> run_;
};

}  // namespace tinyphys
