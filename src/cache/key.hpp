// What a compiled kernel is known by beside its source.
#pragma once

#include <string>
#include <vector>

namespace tinyphys {

// One thing that the bytes of a kernel depend on, as text: {"compiler", "LLVM 19.1.7"}.
struct KeyField {
  std::string name, value;
  bool operator==(const KeyField&) const = default;
};
// In the order in which a reader should look for the one that differs: most general first.
using KeyFields = std::vector<KeyField>;

}  // namespace tinyphys
