// Library functions that make a value by themselves: GEMM, a transform, a sort. Each is one file in src/runtime/calls/
// that adds its row; the scheduler finds it by the op, the runtime runs it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "uop/uop.hpp"

namespace tinyphys {

// One per source of the node: a value, or null where the source is a scalar argument of the plan, whose bits are in
// `numbers`. Values lie in the memory of the device: a function of the host maps them.
struct CallArguments {
  const Node* node;
  const Storage& output;
  std::span<const Storage* const> inputs;
  std::span<const std::int64_t> numbers;
};

struct CallRow {
  std::string_view name;
  Op op;
  // Whether it rather than a kernel makes this node; null: where the fusion asks for it. `fuse`: as in ScheduleOptions.
  bool (*takes)(const Node* n, bool fuse);
  void (*run)(const CallArguments& a);
};

// Null: no function makes this op.
const CallRow* call_of(Op op);
// Before main(), by a static object of the function's file. Returns true.
bool add_call(const CallRow& row);

}  // namespace tinyphys
