// Where a Storage is: for devices only.
#pragma once

#include <string>

#include "tinyphys/error.hpp"
#include "uop/storage.hpp"

namespace tinyphys {

struct StorageAccess {
  static void* address(const Storage& s) { return s.address_; }
  static Storage*& elsewhere(Storage& s) { return s.elsewhere_; }
};

// Throws tp::Error for a value that lies in another memory.
inline void* address_in(const Memory& memory, const Storage& s) {
  if (&s.memory() != &memory) throw Error("launch", "an argument is not in the memory of the device", "", 0);
  return StorageAccess::address(s);
}

}  // namespace tinyphys
