// A chain of masses and springs from a CSV file, in SI units.
//
//   # comments and empty lines may stand anywhere
//   mass, spring, q, p
//   0.2,  15,     0, 0
//
// One row a mass, from left to right. mass in kg (> 0); spring in N/m (>= 0): the spring to the next mass, in
// the last row to the right wall, where 0 leaves the end free. q (displacement from rest, m) and p (momentum,
// kg m/s) are optional. Columns stand in any order.
#pragma once

#include <array>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "bad_input.hpp"
#include "number.hpp"

namespace example {

struct ChainFile {
  std::vector<double> mass, spring;
  std::vector<double> q, p;  // empty without such a column
};

namespace detail {

/// Where a message points to.
struct Place {
  std::string file;
  std::size_t line = 0;

  [[noreturn]] void fail(const std::string& message) const {
    throw BadInput(fmt::format("{}:{}: {}", file, line, message));
  }
};

inline std::vector<std::string_view> split_cells(std::string_view line) {
  std::vector<std::string_view> cells;
  for (;;) {
    const auto comma = line.find(',');
    cells.push_back(trim(line.substr(0, comma)));
    if (comma == line.npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

inline std::string read_all(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw BadInput(fmt::format("{}: is a folder, not a file", path.string()));
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw BadInput(fmt::format("{}: cannot be opened: {}", path.string(), std::strerror(errno)));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  if (in.bad()) throw BadInput(fmt::format("{}: cannot be read", path.string()));
  return text;
}

}  // namespace detail

/// Throws BadInput, with file and line, for whatever is not as described above.
inline ChainFile read_chain(const std::filesystem::path& path) {
  constexpr std::array<std::string_view, 4> kColumns = {"mass", "spring", "q", "p"};
  constexpr std::size_t kMass = 0, kSpring = 1;

  const std::string text = detail::read_all(path);
  std::string_view rest = text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);  // the mark that spreadsheets put before UTF-8

  ChainFile chain;
  const std::array<std::vector<double>*, 4> into = {&chain.mass, &chain.spring, &chain.q, &chain.p};
  std::vector<std::size_t> order;  // the column of kColumns that each cell of a row belongs to
  detail::Place place{path.string()};

  while (!rest.empty()) {
    const auto newline = rest.find('\n');
    std::string_view line = rest.substr(0, newline);
    rest.remove_prefix(newline == rest.npos ? rest.size() : newline + 1);
    ++place.line;
    line = trim(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const std::vector<std::string_view> cells = detail::split_cells(line);

    if (order.empty()) {
      std::array<bool, 4> seen{};
      for (const std::string_view cell : cells) {
        std::size_t column = 0;
        while (column < kColumns.size() && kColumns[column] != cell) ++column;
        if (column == kColumns.size())
          place.fail(fmt::format("column '{}' is none of mass, spring, q, p", cell));
        if (seen[column]) place.fail(fmt::format("column '{}' stands here twice", cell));
        seen[column] = true;
        order.push_back(column);
      }
      for (const std::size_t needed : {kMass, kSpring})
        if (!seen[needed])
          place.fail(fmt::format("column '{}' is missing; the header has: {}", kColumns[needed], line));
      continue;
    }

    if (cells.size() != order.size())
      place.fail(fmt::format("{} cells, but the header has {}", cells.size(), order.size()));
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string_view name = kColumns[order[i]];
      const std::optional<double> value = parse_double(cells[i]);
      if (!value) place.fail(fmt::format("{} is '{}'; it must be a number", name, cells[i]));
      if (!std::isfinite(*value)) place.fail(fmt::format("{} is {}; it must be finite", name, *value));
      if (order[i] == kMass && *value <= 0)
        place.fail(fmt::format("mass is {}; it must be positive", *value));
      if (order[i] == kSpring && *value < 0)
        place.fail(fmt::format("spring is {}; it must be 0 or more", *value));
      into[order[i]]->push_back(*value);
    }
  }
  if (order.empty())
    throw BadInput(fmt::format("{}: is empty; a header 'mass,spring' is needed", path.string()));
  if (chain.mass.empty())
    throw BadInput(fmt::format("{}:{}: no rows after the header", place.file, place.line));
  return chain;
}

}  // namespace example
