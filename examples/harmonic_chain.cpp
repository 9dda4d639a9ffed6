// A chain of masses and springs between two walls, read from a CSV file, evolved for a billion leapfrog
// steps. H is quadratic, which tinyphys proves; the loop then becomes one jump in normal modes. SI units: kg,
// N/m, m, s.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "support/bad_input.hpp"
#include "support/chain_file.hpp"
#include "support/chain_modes.hpp"
#include "support/chain_options.hpp"
#include "support/chain_plots.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;
using namespace example;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The chain that comes with the example: in the source tree, or beside an installed program.
std::filesystem::path shipped_chain(const char* program) {
  std::vector<std::filesystem::path> places;
#ifdef TINYPHYS_SOURCE_DIR
  places.emplace_back(TINYPHYS_SOURCE_DIR "/examples/data/chain.csv");
#endif
  places.push_back(std::filesystem::path(program).parent_path() / "data/chain.csv");
  places.emplace_back("examples/data/chain.csv");
  for (const std::filesystem::path& place : places) {
    std::error_code ignored;
    if (std::filesystem::exists(place, ignored)) return place;
  }
  throw BadInput("chain.csv: the chain that comes with the example was not found; give --input FILE");
}

tp::EvolveOptions evolve_options(const ChainOptions& options) {
  tp::EvolveOptions evolve{.dt = options.dt, .steps = options.steps};
  if (options.integrator == "dkd") evolve.integrator = tp::Integrator::LeapfrogDKD;
  if (options.integrator == "exact") evolve.integrator = tp::Integrator::Exact;
  if (options.integrator == "midpoint") evolve.integrator = tp::Integrator::ImplicitMidpoint;
  if (options.method == "loop") evolve.method = tp::Method::Loop;
  return evolve;
}

std::string range_text(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return *low == *high ? fmt::format("{:g}", *low) : fmt::format("{:g} to {:g}", *low, *high);
}

// The largest relative change of H that the integrator's own error can make. Leapfrog conserves, in each
// mode, p^2/2 + (1 - x) omega^2 q^2/2 with x = (h omega)^2/4 (KDK; DKD with q and p exchanged), which lies
// between (1 - x) H and H. The exact flow and the midpoint rule conserve a quadratic H.
std::string energy_promise(const ChainOptions& options, double h_omega) {
  if (options.integrator == "exact" || options.integrator == "midpoint")
    return fmt::format("{} conserves it", options.integrator);
  const double x = h_omega * h_omega / 4;
  if (x >= 1) return "leapfrog is unstable here: it grows without bound";
  return fmt::format("leapfrog keeps it within {:.1e}", x / (1 - x));
}

void run(const ChainOptions& options, const char* program, std::chrono::steady_clock::time_point start) {
  const std::filesystem::path path = options.input ? *options.input : shipped_chain(program);
  const ChainFile chain = read_chain(path);
  const std::size_t n = chain.mass.size();
  if (options.want_plots) make_plot_folder(options.plot);

  std::vector<double> springs = {options.left_wall.value_or(chain.spring.back())};
  springs.insert(springs.end(), chain.spring.begin(), chain.spring.end());
  std::vector<double> q_start = chain.q, p_start = chain.p;
  if (q_start.empty()) q_start.assign(n, 0.0);
  if (p_start.empty()) p_start.assign(n, 0.0);
  if (chain.q.empty() && chain.p.empty()) q_start[n / 2] = 0.01;

  fmt::print("read       {}: {} masses of {} kg, {} springs of {} N/m\n", path.string(), n,
             range_text(chain.mass), springs.size(), range_text(springs));
  fmt::print("ends       left spring {:g} N/m, right spring {:g} N/m (0: free)\n", springs.front(),
             springs.back());

  const std::vector<double> frequencies = chain_frequencies(chain.mass, springs);
  const double h_omega = std::abs(options.dt) * frequencies.back();
  fmt::print(
      "modes      angular frequencies {:.4g} to {:.4g} rad/s; largest h*omega {:.4g}, leapfrog needs < 2\n",
      frequencies.front(), frequencies.back(), h_omega);

  // The physics: kinetic energy, and springs stretched by the difference of neighbours; the walls stand at 0.
  const tp::Tensor m = tp::Tensor::from(chain.mass), k = tp::Tensor::from(springs);
  const tp::System system([&](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor walled = q.pad({{1, 1}});
    const tp::Tensor stretch = walled.slice(0, 1) - walled.slice(0, 0, -1);
    return 0.5 * (p * p / m).sum() + 0.5 * (k * stretch * stretch).sum();
  });

  const tp::State s0{tp::Tensor::from(q_start), tp::Tensor::from(p_start)};
  const tp::EvolveOptions evolve = evolve_options(options);
  const auto evolve_start = std::chrono::steady_clock::now();
  const tp::State s = system.evolve(s0, evolve);
  tp::realize({s.q, s.p});
  const double evolve_seconds = seconds_since(evolve_start);

  const double before = system.energy(s0).item<double>();
  const double after = system.energy(s).item<double>();
  const std::vector<double> q = s.q.to_vector<double>();
  const tp::Report report = tp::explain(s.q);

  fmt::print("evolved    {} steps of {:g} s, {:g} s in all, integrator {}, method {}\n", options.steps,
             options.dt, static_cast<double>(options.steps) * options.dt, options.integrator, options.method);
  fmt::print("positions ");
  std::size_t last = n;
  for (std::size_t i = 0; i < 5; ++i) {
    const std::size_t at = i * (n - 1) / 4;
    if (at != last) fmt::print(" q[{}] = {:.12g}", at, q[at]);
    last = at;
  }
  fmt::print(" m\n");
  fmt::print("energy     before {:.12g} J, after {:.12g} J", before, after);
  if (before > 0)
    fmt::print(", relative difference {:.1e} ({})", (after - before) / before,
               energy_promise(options, h_omega));
  fmt::print("\n");

  if (options.want_plots) {
    const Sampler sample = [&](std::int64_t steps) {
      tp::EvolveOptions jump = evolve;
      jump.method = tp::Method::Default;
      jump.steps = steps;
      return system.evolve(s0, jump).q.to_vector<double>();
    };
    constexpr double kShort = 0.2;  // seconds, compiling included
    const bool jumped = report.text.find("\nchose    normal-mode jump") != std::string::npos;
    const PlotReport plots =
        draw_plots(options, chain.mass, frequencies, jumped || evolve_seconds < kShort, sample);
    fmt::print("plots      {}, {}; {} samples of the motion in {:.3f} s\n", plots.spectrum.string(),
               plots.motion.string(), plots.samples, plots.sampling_seconds);
    for (const std::string& line : plots.left_out) fmt::print("           {}\n", line);
  }
  fmt::print("time       evolution {:.4f} s, program {:.4f} s\n\n", evolve_seconds, seconds_since(start));
  fmt::print("{}", report);
}

}  // namespace

int main(int argc, char** argv) {
  const auto start = std::chrono::steady_clock::now();
  try {
    const ChainOptions options = parse_chain_options({argv + 1, argv + argc});
    if (options.help) {
      fmt::print("{}", kChainHelp);
      return 0;
    }
    run(options, argv[0], start);
    return 0;
  } catch (const BadInput& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const std::exception& error) {  // tp::Error: what() names the call, the values and the line
    fmt::print(stderr, "harmonic_chain: {}\n", error.what());
    return 1;
  }
}
