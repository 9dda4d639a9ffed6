// Numbers as text: a row a line, commas between, no header.
#include <charconv>
#include <cstring>
#include <istream>
#include <ostream>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "tensor/files.hpp"
#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys::front {
namespace {

// Enough digits to read back the same number.
std::string cell_text(DType dtype, const void* data, std::int64_t i) {
  switch (dtype) {
    case DType::kFloat64: return fmt::format("{:.17g}", static_cast<const double*>(data)[i]);
    case DType::kFloat32: return fmt::format("{:.9g}", static_cast<const float*>(data)[i]);
    case DType::kInt64: return std::to_string(static_cast<const std::int64_t*>(data)[i]);
    case DType::kInt32: return std::to_string(static_cast<const std::int32_t*>(data)[i]);
    default: return static_cast<const unsigned char*>(data)[i] ? "1" : "0";
  }
}

std::string_view trimmed(std::string_view s) {
  constexpr std::string_view kSpace = " \t\r";
  const std::size_t first = s.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(kSpace) - first + 1);
}

bool read_number(std::string_view cell, double& v) {
  if (cell.starts_with('+')) cell.remove_prefix(1);
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), v);
  return error == std::errc() && end == cell.data() + cell.size();
}

}  // namespace

void write_csv(std::ostream& file, const Node* x, const Where& where) {
  if (is_complex(x->dtype))
    fail("save",
         "a .csv file holds real numbers, the tensor is " + describe(x) + ": save as .npy, or its parts",
         where);
  if (x->n_dim == 0 || x->n_dim > 2 || (x->size() == 0 && x->n_dim != 1))
    fail("save",
         "a .csv file holds rows of numbers, of one or two axes; the tensor is " + describe(x) +
             ": reshape it, or save as .npy",
         where);
  const std::int64_t columns = x->n_dim == 2 ? x->shape()[1] : 1;
  const HostRead values(*storage(x));
  for (std::int64_t i = 0; i < x->size(); ++i)
    file << cell_text(x->dtype, values.data(), i) << ((i + 1) % columns ? ',' : '\n');
}

Tensor read_csv(std::istream& file, const std::string& path, const Where& where) {
  std::vector<double> values;
  std::int64_t rows = 0, columns = 0, number = 0;
  std::string line;
  auto bad = [&](const std::string& why) {
    fail("load", "\"" + path + "\" line " + std::to_string(number) + ": " + why, where);
  };
  while (std::getline(file, line)) {
    ++number;
    std::string_view rest = trimmed(line);
    if (rest.empty() || rest[0] == '#') continue;
    std::int64_t in_row = 0;
    for (bool more = true; more; ++in_row) {
      const std::size_t comma = rest.find(',');
      const std::string_view cell = trimmed(rest.substr(0, comma));
      double v = 0;
      if (!read_number(cell, v)) bad("\"" + std::string(cell.substr(0, 60)) + "\" is not a float64 number");
      values.push_back(v);
      more = comma != std::string_view::npos;
      if (more) rest.remove_prefix(comma + 1);
    }
    if (rows == 0) columns = in_row;
    if (in_row != columns)
      bad(std::to_string(in_row) + " numbers, the first row has " + std::to_string(columns));
    ++rows;
  }
  if (file.bad()) bad("cannot read on");
  const Shape shape = columns > 1 ? Shape{rows, columns} : Shape{rows};
  StorageRef data = allocate(DType::kFloat64, shape, "load", where);
  if (!values.empty()) std::memcpy(HostWrite(*data).data(), values.data(), values.size() * sizeof(double));
  return tensor(buffer(DType::kFloat64, shape, std::move(data)));
}

}  // namespace tinyphys::front
