#include "tensor/engine_hook.hpp"

#include <atomic>

#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

// Constant-initialised: engines register themselves from static constructors of other files.
constinit std::atomic<EngineHook*> registered{nullptr};

}  // namespace

EngineHook& engine() {
  EngineHook* hook = registered.load(std::memory_order_acquire);
  if (!hook) throw Error("engine", "no engine is linked into this program", "", 0);
  return *hook;
}
bool has_engine() { return registered.load(std::memory_order_acquire) != nullptr; }
void register_engine(EngineHook* hook) { registered.store(hook, std::memory_order_release); }

}  // namespace tinyphys
