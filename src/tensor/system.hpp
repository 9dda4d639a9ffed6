// Progress callbacks of evolutions, for the runtime.
#pragma once

#include <functional>

#include "tinyphys/system.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// The callback given with an EVOLVE, empty when there is none. Callbacks stand beside the graph: they enter
// no hash.
std::function<void(const Progress&)> progress_callback(const Node* evolve);

// Ties a callback to an EVOLVE for as long as anybody else holds the node.
void set_progress_callback(const UOp& evolve, std::function<void(const Progress&)> callback);

}  // namespace tinyphys
