// Linear systems over a billion steps: the loop that disappears.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "linalg/dense.hpp"
#include "process.hpp"
#include "reference/dense.hpp"
#include "reference/passes.hpp"
#include "runtime/device.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::bench {
namespace {

constexpr long kChain = 100, kDense = 1000;
constexpr long kLoopSteps = 100'000;
constexpr std::int64_t kBillion = 1'000'000'000;
constexpr double kDt =
    0.01;  // h omega_max = 0.03 with the dense couplings below, so that leapfrog is far from 2

// Jump and loop both round; 1e5 steps of a chain lose about 1e-12 of phase.
constexpr double kSameMotion = 1e-9;
// Leapfrog's energy swings by about (h omega)^2 / 8 = 4e-5 of itself; far more than that is a wrong jump.
constexpr double kEnergySwing = 1e-3;

// Positions, then momenta.
std::vector<double> values_of(const State& s) {
  realize({s.q, s.p});
  std::vector<double> v = s.q.to_vector<double>();
  const std::vector<double> p = s.p.to_vector<double>();
  v.insert(v.end(), p.begin(), p.end());
  return v;
}

// --- the whole example ---

// Ends when the process has ended: later than the printed result, which the note gives.
Bench chain_process(bool plots) {
  const std::string program = build_folder() + "/examples/harmonic_chain";
  if (!std::filesystem::exists(program)) throw std::runtime_error("examples/harmonic_chain is not built");
  const auto folder = std::make_shared<TemporaryFolder>();
  const std::string input = folder->path() + "/chain.csv";
  Random random(1);
  std::ofstream file(input);
  file << "mass,spring\n";
  for (long i = 0; i < kChain; ++i)
    file << fmt::format("{:.6f},{:.6f}\n", random.uniform(0.1, 1.0), random.uniform(5.0, 20.0));
  file.close();
  if (!file) throw std::runtime_error("the input of harmonic_chain cannot be written");

  const auto printed = std::make_shared<std::vector<double>>();
  Bench b;
  b.work = [=](long) {
    std::vector<std::string> arguments{program, "--input", input, "--steps", std::to_string(kBillion)};
    if (!plots) arguments.push_back("--no-plot");
    const ProcessResult r = run_process(arguments, folder->path());
    if (r.output.empty()) throw Wrong("harmonic_chain printed nothing");
    printed->push_back(r.last_output);
    return r.seconds;
  };
  b.sampling = {.warm_up = 1, .min_samples = 7, .max_samples = 31, .budget_s = 3, .min_sample_s = 0};
  b.finish = [=] { return fmt::format("result printed after {:.1f} ms", 1e3 * summarize(*printed).median); };
  return b;
}

Bench chain_with_plots() { return chain_process(true); }
Bench chain_without_plots() { return chain_process(false); }

// --- dense couplings ---

// Masses in [0.5, 2]; K = B B^T / n + 0.1, with eigenvalues from 0.1 to about 1.4.
DenseSystem dense_system(std::uint64_t seed) {
  Random random(seed);
  DenseSystem s;
  s.n = kDense;
  s.mass = random.vector(s.n, 0.5, 2.0);
  const std::vector<double> b = random.vector(s.n * s.n, -1.0, 1.0);
  s.coupling.resize(b.size());
  gemm(s.n, s.n, s.n, b.data(), s.n, false, b.data(), s.n, true, s.coupling.data(), s.n);
  // Equal to the last bit on both sides of the diagonal, whatever order BLAS summed in.
  for (long i = 0; i < s.n; ++i)
    for (long j = 0; j <= i; ++j) {
      const double k = s.coupling[static_cast<std::size_t>(i * s.n + j)] / static_cast<double>(s.n);
      s.coupling[static_cast<std::size_t>(i * s.n + j)] = s.coupling[static_cast<std::size_t>(j * s.n + i)] =
          k + (i == j ? 0.1 : 0.0);
    }
  return s;
}

// One fresh process that evolves the system three times; dense_child prints it.
struct DenseRun {
  double cold_s, second_s;
  double compiled_cold, compiled_second;
  double energy_error;  // of the two long ones, the worse
  double loop_error;    // of the third, against the loop by hand
};

// Rows that look at different parts of a run share it: a run takes seconds.
const DenseRun& dense_run(std::size_t i) {
  static std::vector<DenseRun> runs;
  while (runs.size() <= i) {
    const ChildResult c = run_child("dense");
    runs.push_back({c["cold_s"], c["second_s"], c["compiled_cold"], c["compiled_second"], c["energy_error"],
                    c["loop_error"]});
  }
  const DenseRun& r = runs[i];
  // Negated so that NaN is wrong.
  if (!(r.energy_error <= kEnergySwing))
    throw Wrong(fmt::format("after 10^9 steps the energy is off by {:.1e} of itself", r.energy_error));
  if (!(r.loop_error <= kSameMotion))
    throw Wrong(fmt::format("200 steps differ by {:.1e} from the loop written by hand", r.loop_error));
  return r;
}

constexpr Sampling kFreshProcesses = {
    .warm_up = 0, .min_samples = 5, .max_samples = 5, .budget_s = 0, .min_sample_s = 0};

Bench dense_cold() {
  struct Input {
    std::vector<double> matrix, a, w;
    SymmetricEigen eigen{kDense};
  };
  const auto in = std::make_shared<Input>();
  in->matrix = dense_system(1).mass_weighted();
  Bench b;
  b.work = [i = std::size_t{0}](long) mutable { return dense_run(i++).cold_s; };
  b.reference = [in](long) {
    in->a = in->matrix;
    const auto start = Clock::now();
    in->eigen(in->a, in->w);
    return seconds_since(start);
  };
  b.reference(1);
  b.sampling = kFreshProcesses;
  b.finish = [] {
    const DenseRun& r = dense_run(0);
    return fmt::format(
        "{:.0f} kernels compiled; energy after 10^9 steps within {:.1e}; 200 steps within {:.1e} of the loop",
        r.compiled_cold, r.energy_error, r.loop_error);
  };
  return b;
}

Bench dense_second() {
  const auto compiled = std::make_shared<double>(0);
  Bench b;
  b.work = [=, i = std::size_t{0}](long) mutable {
    const DenseRun& r = dense_run(i++);
    *compiled = std::max(*compiled, r.compiled_second);
    return r.second_s;
  };
  b.sampling = kFreshProcesses;
  b.finish = [=]() -> std::string {
    if (*compiled != 0) throw Wrong(fmt::format("the second evolve compiled {:.0f} kernels", *compiled));
    return "0 kernels compiled";
  };
  return b;
}

// --- loop and jump ---

// Masses in a row, tied by springs to their neighbours and at both ends to walls.
System chain_system(Random& random) {
  const Tensor m = Tensor::from(random.vector(kChain, 0.1, 1.0));
  const Tensor k = Tensor::from(random.vector(kChain + 1, 5.0, 20.0));
  return System([=](const Tensor& q, const Tensor& p) {
    const Tensor stretch = q.pad({{0, 1}}) - q.pad({{1, 0}});
    return 0.5 * (p * p / m).sum() + 0.5 * (k * stretch * stretch).sum();
  });
}

Bench chain_jump() {
  Random random(2);
  const System system = chain_system(random);
  const auto q0 = random.vector(kChain, -0.01, 0.01), p0 = random.vector(kChain, -0.01, 0.01);
  // Fresh leaves each time: a value whose handle is still alive would not be computed again.
  const auto motion = [=](Method method) {
    return values_of(system.evolve({Tensor::from(q0), Tensor::from(p0)},
                                   {.dt = 1e-3, .steps = kLoopSteps, .method = method}));
  };
  const double error = relative_error(motion(Method::Default), motion(Method::Loop));
  if (!(error <= kSameMotion)) throw Wrong(fmt::format("jump and loop differ by {:.1e}", error));
  Bench b;
  b.work = timed([=] { consume(motion(Method::Default)); });
  b.reference = timed([=] { consume(motion(Method::Loop)); });
  b.finish = [=] { return fmt::format("they differ by {:.1e} of the largest coordinate", error); };
  return b;
}

// --- lattices and ensembles ---

constexpr long kLattice = 1024, kMembers = 100'000;

// In turn the same number of steps again (the powers of the modes are there) or another one.
Bench lattice_jump(bool other_steps) {
  Random random(5);
  const Tensor q = Tensor::from(random.vector(kLattice * kLattice, -1, 1), {kLattice, kLattice});
  const Tensor p = Tensor::from(random.vector(kLattice * kLattice, -1, 1), {kLattice, kLattice});
  const System system([](const Tensor& x, const Tensor& y) {
    const Tensor a = x.roll(1, 0) - x, b = x.roll(1, 1) - x;
    return 0.5 * (y * y).sum() + 0.5 * (a * a).sum() + 0.5 * (b * b).sum();
  });
  const auto count = std::make_shared<std::int64_t>(kBillion);
  const auto motion = [=] {
    if (other_steps) --*count;
    const State s = system.evolve({q.clone(), p.clone()}, {.dt = 0.1, .steps = *count});
    realize({s.q, s.p});
    return s;
  };
  const State s = motion();
  const double before = system.energy({q, p}).item<double>(), after = system.energy(s).item<double>();
  const double swing = std::abs(after - before) / before;
  if (!(swing <= 1e-2)) throw Wrong(fmt::format("the energy changed by {:.1e} of itself", swing));
  const auto transforms = std::make_shared<TransformPair>(static_cast<int>(kLattice));
  Bench b;
  b.work = timed([=] { consume(motion()); });
  b.reference = timed([=] { transforms->run(); });
  b.sampling.budget_s = 6;
  b.finish = [=] { return fmt::format("energy after 10^9 steps within {:.1e}", swing); };
  return b;
}

// A billion steps from where the last billion ended.
Bench ensemble_jump(bool other_steps) {
  Random random(6);
  const auto k = random.vector(kMembers, 0.5, 4), q = random.vector(kMembers, -1, 1),
             p = random.vector(kMembers, -1, 1);
  const Tensor springs = Tensor::from(k);
  const System system(
      [=](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() + 0.5 * (springs * x * x).sum(); });
  const auto state = std::make_shared<State>(State{Tensor::from(q), Tensor::from(p)});
  const auto count = std::make_shared<std::int64_t>(kBillion);
  const auto motion = [=] {
    if (other_steps) --*count;
    *state = system.evolve(*state, {.dt = 0.01, .steps = *count});
    realize({state->q, state->p});
  };
  const double before = system.energy(*state).item<double>();
  motion();
  const double after = system.energy(*state).item<double>();
  if (!(std::abs(after - before) <= kEnergySwing * before)) throw Wrong("the energy changed");
  const auto out = std::make_shared<std::pair<std::vector<double>, std::vector<double>>>(q, p);
  Bench b;
  b.work = timed([=] {
    motion();
    consume(*state);
  });
  b.reference = timed([=] {
    pass_over(q, p, k, out->first, out->second);
    consume(*out);
  });
  return b;
}

}  // namespace

void dense_child(Clock::time_point main_start) {
  print_main_start(main_start);
  const DenseSystem s = dense_system(1);
  Random random(3);
  struct Start {
    std::vector<double> q, p;
  };
  std::vector<Start> starts;
  for (int i = 0; i < 3; ++i) starts.push_back({random.vector(s.n, -1, 1), random.vector(s.n, -1, 1)});
  const auto energy_error = [&](const Start& start, const std::vector<double>& end) {
    const auto middle = end.begin() + s.n;
    const double before = s.energy(start.q, start.p);
    return std::abs(s.energy({end.begin(), middle}, {middle, end.end()}) - before) / before;
  };

  const auto start = Clock::now();
  const Tensor m = Tensor::from(s.mass);
  const Tensor k = Tensor::from(s.coupling, {s.n, s.n});
  const System system([=](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p / m).sum() + 0.5 * (q * matmul(k, q)).sum();
  });
  const auto evolve = [&](const Start& from, double dt, std::int64_t steps) {
    return values_of(system.evolve({Tensor::from(from.q), Tensor::from(from.p)}, {.dt = dt, .steps = steps}));
  };
  const std::vector<double> first = evolve(starts[0], kDt, kBillion);
  print_value("cold_s", seconds_since(start));
  const std::int64_t compiled = kernels_compiled();
  print_value("compiled_cold", static_cast<double>(compiled));

  const auto again = Clock::now();
  const std::vector<double> second = evolve(starts[1], 0.7 * kDt, 123'456'789);
  print_value("second_s", seconds_since(again));
  print_value("compiled_second", static_cast<double>(kernels_compiled() - compiled));
  print_value("energy_error", std::max(energy_error(starts[0], first), energy_error(starts[1], second)));

  const std::vector<double> third = evolve(starts[2], 1.3 * kDt, 200);
  std::vector<double> q = starts[2].q, p = starts[2].p;
  s.leapfrog(q, p, 1.3 * kDt, 200);
  q.insert(q.end(), p.begin(), p.end());
  print_value("loop_error", relative_error(third, q));
}

void add_evolve_rows(std::vector<Row>& rows) {
  rows.push_back({.name = "chain/process",
                  .work = "harmonic_chain as a process, 100 oscillators, 10^9 steps, with its plots",
                  .n = kChain,
                  .set_up = chain_with_plots});
  rows.push_back({.name = "chain/no-plot",
                  .work = "the same with --no-plot",
                  .n = kChain,
                  .set_up = chain_without_plots});
  rows.push_back({.name = "dense/cold",
                  .work = "1000 oscillators, dense K, 10^9 steps: the first evolve of a process",
                  .n = kDense,
                  .reference = "one LAPACK dsyevd of that size, 1 thread",
                  .set_up = dense_cold});
  rows.push_back({.name = "dense/second",
                  .work = "the second evolve: other state, dt and steps",
                  .n = kDense,
                  .set_up = dense_second});
  rows.push_back({.name = "chain/jump",
                  .work = "100 oscillators, 10^5 steps, modes ready",
                  .n = kChain,
                  .reference = "the same with Method::Loop",
                  .set_up = chain_jump});
  rows.push_back({.name = "lattice/jump",
                  .work = "1024 x 1024 periodic lattice, 10^9 steps, the powers of its modes ready",
                  .n = kLattice * kLattice,
                  .reference = "FFTW there and back, real, FFTW_ESTIMATE, of q and of p, 1 thread",
                  .set_up = [] { return lattice_jump(false); }});
  rows.push_back({.name = "lattice/steps",
                  .work = "the same, each time another number of steps",
                  .n = kLattice * kLattice,
                  .reference = "FFTW there and back, real, FFTW_ESTIMATE, of q and of p, 1 thread",
                  .set_up = [] { return lattice_jump(true); }});
  rows.push_back(
      {.name = "ensemble/jump",
       .work = "10^5 oscillators of their own stiffness, 10^9 steps, the powers of their modes ready",
       .n = kMembers,
       .reference = "one pass over the state and the springs, C++ -O3, 1 thread",
       .set_up = [] { return ensemble_jump(false); }});
  rows.push_back({.name = "ensemble/steps",
                  .work = "the same, each time another number of steps",
                  .n = kMembers,
                  .reference = "one pass over the state and the springs, C++ -O3, 1 thread",
                  .set_up = [] { return ensemble_jump(true); }});
}

}  // namespace tinyphys::bench
