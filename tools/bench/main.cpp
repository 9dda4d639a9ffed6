// tinyphys-bench: measures the library against references in the same run, and holds it to its stated goals.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>

#include <fmt/format.h>

#include "bench.hpp"
#include "calibrate.hpp"
#include "report.hpp"
#include "support/env.hpp"

namespace tinyphys::bench {

std::span<const Child> children() {
  static constexpr auto kChildren =
      std::to_array<Child>({{"dense", dense_child}, {"first-kernel", first_kernel_child}});
  return kChildren;
}

namespace {

constexpr const char* kHelp = R"(tinyphys-bench: measures tinyphys beside references in the same run

  --filter REGEX   only rows whose name matches (anywhere; ECMAScript)
  --list           the rows, their references and goals; measures nothing
  --json FILE      writes an array with an object a row
  --enforce        exit code 1 when a stated goal is missed, or a row is wrong or fails; says which
  --calibrate      measures the constants of the cost model and prints them beside those in use; no rows
  --help           this text

median     of the samples, in seconds a run, or a unit where the work says so ("a node")
spread     median distance of the samples from their median
reference  median of the reference, sampled in turn with the work
ratio      reference / median: the speed relative to the reference; 2 is twice as fast, 0.1 takes ten times as long
holds      whether the goal is met; rows without a goal are for information

Cold starts run in processes of their own, several times. TINYPHYS_THREADS and TINYPHYS_DEVICE act as always.
Exit codes: 0 done; 1 with --enforce, a goal missed; 2 an option not understood, a file that cannot be written; 3 the
program itself failed.
)";

struct Options {
  std::string filter;
  std::string json;
  std::string child;
  bool list = false, enforce = false, calibrate = false, help = false;
};

// The message says what is wrong with the command line.
struct Usage {
  std::string message;
};

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.starts_with("--") ? argument.find('=') : std::string_view::npos;
    const std::string_view option = argument.substr(0, equals);
    const auto value = [&]() -> std::string {
      if (equals != std::string_view::npos) return std::string(argument.substr(equals + 1));
      if (++i == argc) throw Usage{fmt::format("{} needs a value", option)};
      return argv[i];
    };
    const auto flag = [&] {
      if (equals != std::string_view::npos) throw Usage{fmt::format("{} takes no value", option)};
      return true;
    };
    if (option == "--filter")
      o.filter = value();
    else if (option == "--json")
      o.json = value();
    else if (option == "--child")
      o.child = value();
    else if (option == "--list")
      o.list = flag();
    else if (option == "--enforce")
      o.enforce = flag();
    else if (option == "--calibrate")
      o.calibrate = flag();
    else if (option == "--help" || option == "-h")
      o.help = flag();
    else
      throw Usage{fmt::format("unknown option {}", argument)};
  }
  return o;
}

std::vector<const Row*> select(const std::vector<Row>& rows, const std::string& filter) {
  std::vector<const Row*> chosen;
  try {
    const std::regex pattern(filter);
    for (const Row& row : rows)
      if (std::regex_search(row.name.begin(), row.name.end(), pattern)) chosen.push_back(&row);
  } catch (const std::regex_error& e) {
    throw Usage{fmt::format("--filter {}: {}", filter, e.what())};
  }
  if (chosen.empty()) throw Usage{fmt::format("--filter {}: no row matches", filter)};
  return chosen;
}

// A goal that no row answers to would hold for ever unseen.
void check_goals(const std::vector<Row>& rows) {
  for (const Goal& goal : goals()) {
    const auto same = [&](const Row& row) { return row.name == goal.row; };
    if (std::count_if(rows.begin(), rows.end(), same) != 1)
      throw std::logic_error(fmt::format("the goal {} needs exactly one row of that name", goal.row));
  }
}

int run(const Options& o) {
  std::vector<Row> rows;
  add_evolve_rows(rows);
  add_fft_rows(rows);
  add_kernel_rows(rows);
  add_gradient_rows(rows);
  add_loop_rows(
      rows);  // before rows that leave plans of 10^5 nodes behind: the table of nodes is larger then
  add_orbit_rows(rows);
  add_overhead_rows(rows);
  add_native_rows(rows);
  add_opencl_rows(rows);
  add_splitting_rows(rows);
  add_cache_rows(rows);
  check_goals(rows);
  const std::vector<const Row*> chosen = select(rows, o.filter);
  if (o.list) {
    print_list(chosen);
    return 0;
  }
  // Opened first: minutes of measuring are not to be lost to a mistyped path.
  std::optional<std::ofstream> json;
  if (!o.json.empty()) {
    json.emplace(o.json);
    if (!*json) throw Usage{fmt::format("--json {}: cannot be written", o.json)};
  }
  // A progress bar on the terminal would stand in the table, and in the times.
  const env::ScopedOverride no_bar("TINYPHYS_PROGRESS", "0");
  const Machine machine = this_machine();
  print_head(machine, chosen);
  std::vector<Result> results;
  for (const Row* row : chosen) {
    results.push_back(measure(*row));
    print_result(results.back(), chosen);
  }
  print_verdict(results);
  if (json) {
    *json << to_json(machine, results);
    json->close();
    if (!*json) throw Usage{fmt::format("--json {}: cannot be written", o.json)};
  }
  const bool all_hold =
      std::all_of(results.begin(), results.end(), [](const Result& r) { return r.holds(); });
  return o.enforce && !all_hold ? 1 : 0;
}

int run_as_child(const std::string& name, Clock::time_point main_start) {
  const auto found =
      std::find_if(children().begin(), children().end(), [&](const Child& c) { return c.name == name; });
  if (found == children().end()) throw Usage{fmt::format("--child {}: there is none of that name", name)};
  found->run(main_start);
  return 0;
}

}  // namespace
}  // namespace tinyphys::bench

int main(int argc, char** argv) {
  using namespace tinyphys::bench;
  const auto main_start = Clock::now();
  // First kernels and cold starts are what they are called; the rows of the cache have one of their own.
  setenv("TINYPHYS_CACHE", "0", 1);
  try {
    const Options options = parse(argc, argv);
    if (options.help) {
      fmt::print("{}", kHelp);
      return 0;
    }
    if (options.calibrate) {
      calibrate();
      return 0;
    }
    return options.child.empty() ? run(options) : run_as_child(options.child, main_start);
  } catch (const Usage& e) {
    fmt::print(stderr, "tinyphys-bench: {}\nTry --help.\n", e.message);
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "tinyphys-bench: {}\n", e.what());
    return 3;
  }
}
