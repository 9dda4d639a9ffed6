// The file formats of save and load. Each reads or writes an open file; errors name the path and the user's line.
#pragma once

#include <iosfwd>
#include <string>

#include "tinyphys/tensor.hpp"
#include "uop/uop.hpp"

namespace tinyphys::front {

// x is realized.
void write_npy(std::ostream& file, const Node* x, const Where& where);
void write_csv(std::ostream& file, const Node* x, const Where& where);
Tensor read_npy(std::istream& file, const std::string& path, const Where& where);
Tensor read_csv(std::istream& file, const std::string& path, const Where& where);

}  // namespace tinyphys::front
