// The command line of harmonic_chain.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "bad_input.hpp"
#include "number.hpp"

namespace example {

struct ChainOptions {
  std::optional<std::filesystem::path> input;
  std::int64_t steps = 1'000'000'000;
  double dt = 1e-3;  // s
  std::string integrator = "kdk";
  std::string method = "default";
  std::optional<double> left_wall;  // N/m
  std::filesystem::path plot = "harmonic_chain_plots";
  bool want_plots = true;
  bool help = false;
};

inline constexpr std::string_view kChainHelp =
    R"(harmonic_chain: a chain of masses and springs, evolved for a billion steps by one jump

  --input FILE          CSV with the columns mass (kg) and spring (N/m), and optionally q (m) and p (kg m/s);
                        one row a mass; a row's spring ties it to the next mass, that of the last row to the
                        right wall (0: a free end). Default: the chain that comes with the example
  --left-wall K         spring from the left wall to the first mass, N/m (0: a free end);
                        default: as the right wall's
  --steps N             time steps (default 1e9)
  --dt H                length of a step in s (default 1e-3); below 0 runs backward
  --integrator NAME     kdk, dkd (leapfrog; default kdk), exact, midpoint
  --method NAME         default (a loop that is proved linear becomes one jump) or loop (every step is taken)
  --plot DIR            folder for spectrum.svg and motion.svg (default harmonic_chain_plots)
  --no-plot             no plots
  --help                this text

Without the columns q and p the chain starts at rest with its middle mass pulled aside by 0.01 m.
)";

/// Throws BadInput for an unknown option, a missing or a wrong value.
inline ChainOptions parse_chain_options(const std::vector<std::string_view>& words) {
  ChainOptions options;
  std::size_t next = 0;
  while (next < words.size()) {
    std::string_view name = words[next++];
    std::optional<std::string_view> attached;  // --name=value
    if (const auto equals = name.find('='); name.starts_with("--") && equals != name.npos) {
      attached = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    const auto fail = [&](std::string_view value, std::string_view needed) {
      throw BadInput(fmt::format("harmonic_chain: {} {}: {}", name, value, needed));
    };
    const auto value = [&]() -> std::string_view {
      if (attached) return *attached;
      if (next == words.size()) throw BadInput(fmt::format("harmonic_chain: {} needs a value", name));
      return words[next++];
    };
    const auto one_of = [&](std::initializer_list<std::string_view> choices) {
      const std::string_view given = value();
      std::string list;
      for (const std::string_view choice : choices) {
        if (given == choice) return std::string(given);
        list += fmt::format("{}{}", list.empty() ? "" : ", ", choice);
      }
      throw BadInput(fmt::format("harmonic_chain: {} {}: must be one of {}", name, given, list));
    };
    const auto flag = [&] {
      if (attached) throw BadInput(fmt::format("harmonic_chain: {} takes no value", name));
    };

    if (name == "--input") {
      options.input = value();
    } else if (name == "--steps") {
      const std::string_view given = value();
      const std::optional<std::int64_t> steps = parse_integer(given);
      if (!steps) fail(given, "must be a whole number");
      if (*steps < 0) fail(given, "must be 0 or more");
      options.steps = *steps;
    } else if (name == "--dt") {
      const std::string_view given = value();
      const std::optional<double> dt = parse_double(given);
      if (!dt || !std::isfinite(*dt)) fail(given, "must be a finite number of seconds");
      if (*dt == 0) fail(given, "must not be 0");
      options.dt = *dt;
    } else if (name == "--left-wall") {
      const std::string_view given = value();
      const std::optional<double> spring = parse_double(given);
      if (!spring || !std::isfinite(*spring) || *spring < 0)
        fail(given, "must be a number of N/m, 0 or more");
      options.left_wall = *spring;
    } else if (name == "--integrator") {
      options.integrator = one_of({"kdk", "dkd", "exact", "midpoint"});
    } else if (name == "--method") {
      options.method = one_of({"default", "loop"});
    } else if (name == "--plot") {
      options.plot = value();
      options.want_plots = true;
    } else if (name == "--no-plot") {
      flag();
      options.want_plots = false;
    } else if (name == "--help" || name == "-h") {
      flag();
      options.help = true;
    } else {
      throw BadInput(fmt::format("harmonic_chain: unknown option {}; --help lists the options", name));
    }
  }
  return options;
}

}  // namespace example
