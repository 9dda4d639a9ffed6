// The page: one file that needs no other.
#pragma once

#include <string>
#include <vector>

#include "dumps.hpp"

namespace tinyphys::viz {

std::string page(const std::vector<Stage>& stages, const std::string& title);

// Its parts that are the same for all.
extern const char* const kStyle;
extern const char* const kScript;

}  // namespace tinyphys::viz
