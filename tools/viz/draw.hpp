// Drawings by Graphviz.
#pragma once

#include <vector>

#include "dumps.hpp"

namespace tinyphys::viz {

// Fills svg of each stage that has a drawing, or says in no_svg why there is none. `seconds`: how long dot may take for one.
// Throws std::runtime_error where dot is not installed or does not understand a drawing.
void draw_all(std::vector<Stage>& stages, double seconds);

}  // namespace tinyphys::viz
