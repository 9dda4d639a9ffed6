// A kernel on its way from a LAMBDA to linear programs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codegen/index.hpp"
#include "codegen/lower_operations.hpp"
#include "codegen/program.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// What the code generator knows of a machine, and of the text that is written for it.
struct Target {
  int vector_bytes = 64;
  // Masked vector loads and stores cost no more than plain ones.
  bool cheap_masks = true;
  std::int64_t max_units = 1024;  // units of work that a loop is cut into
  RenderCaps render{};
};

// One loop nest: everything in `stores` is computed inside `ranges`, outer first. The passes fill in the
// rest.
struct LoopNest {
  std::vector<UOp> ranges;
  std::vector<UOp> stores;
  std::map<Node*, int> lanes;  // vector ranges: how many elements go side by side
  bool streams = false;        // what is stored is too large for the caches, and passes them by

  // Units of work are cut from one range: unit u is [u * grain, (u + 1) * grain) of it.
  UOp parallel;
  std::int64_t grain = 1, units = 1;
  double cost_ns = 0;  // an estimate, one thread

  // A reduce range of which one nest pass covers only block * size + [0, size).
  struct Block {
    UOp range, block;
    std::int64_t size;
  };
  std::vector<Block> blocks;
};

struct KernelGraph {
  std::shared_ptr<IndexMath> math;
  std::vector<LoopNest> nests;  // run in order
  std::vector<std::int64_t>
      scratch;  // bytes of buffers between nests; PARAM n_params + i, output n_outputs + i
  std::int64_t n_params = 0, n_outputs = 0;
  bool is_scan = false;
};

// A finished kernel: one program per nest.
struct Kernel {
  struct Part {
    Program program;
    std::int64_t units;
    double cost_ns;
  };
  std::vector<Part> parts;
  std::vector<std::int64_t> scratch;
  std::vector<DType> params;  // dtype of each PARAM, then of each scratch buffer
  std::vector<DType> outputs;
  bool is_scan = false;
  bool has_members = false;  // of a scan: its loops over steps run beside each other, some in lanes

  double cost_ns() const {
    double total = 0;
    for (const Part& p : parts) total += p.cost_ns;
    return total;
  }
};

// Throws tp::Error("compile", ...) when the LAMBDA is no kernel.
Kernel lower_kernel(const UOp& lambda, const Target& target);

// Whether a SCAN can be one kernel: everything that belongs to one of its members (members.hpp) small and scalar. scalar_ops:
// operations of one step of a member. Limits: kMaxScanOps operations, kMaxScanCarry elements of carry, and no stacked output
// of an inner scan.
inline constexpr long kMaxScanOps = 3000, kMaxScanCarry = 256;
bool fits_scan_kernel(const Node* scan, long& scalar_ops);

}  // namespace tinyphys
