// What the reader sees: a table while the rows are measured, and a file for machines.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench.hpp"
#include "machine.hpp"

namespace tinyphys::bench {

void print_list(std::span<const Row* const> rows);

void print_head(const Machine& machine, std::span<const Row* const> rows);
// One line, and one more for each of reference and note. Columns fit the rows given to print_head.
void print_result(const Result& result, std::span<const Row* const> rows);
// How many goals hold, and which do not.
void print_verdict(std::span<const Result> results);

std::string to_json(const Machine& machine, std::span<const Result> results);

}  // namespace tinyphys::bench
