// What a graph must be at each stage: a list of rules, checked between passes in tests and when TINYPHYS_VERIFY=1.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "uop/uop.hpp"

namespace tinyphys {

enum class Stage : std::uint8_t {
  kTensor,   // what is recorded, and everything up to the last pass on tensors
  kProgram,  // what the passes hand to the scheduler: closed LAMBDAs, no EVOLVE, no vjp nodes
  kKernel    // one kernel: scalars, loops, loads and stores
};
constexpr std::string_view name(Stage s) {
  return s == Stage::kTensor ? "tensor" : s == Stage::kProgram ? "program" : "kernel";
}

// Throws tp::Error("verify", ...) that names the first node that breaks a rule, and the rule. Bodies are checked
// too, each once.
void verify(std::span<Node* const> roots, Stage stage);

// The rules of a stage, one a line.
std::string spec_text(Stage stage);

}  // namespace tinyphys
