// Measures the constants of the cost model (src/support/cost_model.hpp) on one thread of this machine.
#include "calibrate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "analysis/degree.hpp"
#include "bench.hpp"
#include "input.hpp"
#include "linalg/dense.hpp"
#include "linalg/fft.hpp"
#include "machine.hpp"
#include "propagate/propagator.hpp"
#include "schedule/plan.hpp"
#include "support/cost_model.hpp"
#include "support/env.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tinyphys::bench {
namespace {

constexpr std::int64_t kManySteps = 1'000'000'000;

struct Constant {
  const char* name;
  double CostModel::*member;
};
constexpr auto kConstants = std::to_array<Constant>({
    {"op_s", &CostModel::op_s},
    {"call_s", &CostModel::call_s},
    {"multiply_add_s", &CostModel::multiply_add_s},
    {"dd_multiply_add_s", &CostModel::dd_multiply_add_s},
    {"kernel_compile_s", &CostModel::kernel_compile_s},
    {"node_compile_s", &CostModel::node_compile_s},
    {"loop_pass_s", &CostModel::loop_pass_s},
    {"scan_step_s", &CostModel::scan_step_s},
    {"extraction_s", &CostModel::extraction_s},
    {"modes_build_cubic_s", &CostModel::modes_build_cubic_s},
    {"modes_build_square_s", &CostModel::modes_build_square_s},
    {"modes_build_row_s", &CostModel::modes_build_row_s},
    {"modes_apply_square_s", &CostModel::modes_apply_square_s},
    {"modes_apply_row_s", &CostModel::modes_apply_row_s},
    {"mode_power_s", &CostModel::mode_power_s},
    {"single_build_s", &CostModel::single_build_s},
    {"single_apply_s", &CostModel::single_apply_s},
    {"lattice_probe_s", &CostModel::lattice_probe_s},
    {"lattice_mode_s", &CostModel::lattice_mode_s},
    {"lattice_tap_s", &CostModel::lattice_tap_s},
    {"fft_point_s", &CostModel::fft_point_s},
    {"lattice_point_s", &CostModel::lattice_point_s},
});

double seconds(const std::function<void()>& f) {
  const auto start = Clock::now();
  f();
  return seconds_since(start);
}

// The fastest of `count`: what the machine does when nothing else wants it.
double fastest(int count, const std::function<double()>& measured) {
  double least = measured();
  for (int i = 1; i < count; ++i) least = std::min(least, measured());
  return least;
}

// The slope and the value at 0 of a line through two points.
struct Line {
  double slope, start;
};
Line line(double x0, double y0, double x1, double y1) {
  const double slope = (y1 - y0) / (x1 - x0);
  return {slope, std::max(0.0, y0 - slope * x0)};
}

// --- loops and kernels ---

// Seconds a step of a loop over a vector of n.
double step_seconds(std::int64_t n, const std::function<Tensor(const Tensor&)>& body) {
  const std::int64_t steps = std::max<std::int64_t>(100, 2'000'000 / n);
  const auto run = [&](std::int64_t count) {
    return seconds([&] {
      const Tensor x = Tensor::from(Random(static_cast<std::uint64_t>(count)).vector(n, 0.1, 0.9));
      consume(scan([&](const Tensor& y) { return body(y); }, x, count).to_vector<double>());
    });
  };
  run(1);  // compiles
  return fastest(7, [&] { return (run(2 * steps) - run(steps)) / static_cast<double>(steps); });
}

Tensor nonlinear(Tensor x, int stages) {
  for (int i = 0; i < stages; ++i) x = x * x * 0.5 + 0.25;
  return x;
}

void measure_loops(CostModel& m) {
  constexpr int kStages = 8;
  constexpr std::int64_t kSmall = 1 << 9,
                         kLarge = 1 << 11;  // in the first cache, too large for a scan kernel
  const auto a_call = [](const std::function<Tensor(const Tensor&)>& body) {
    return line(kSmall, step_seconds(kSmall, body), kLarge, step_seconds(kLarge, body)).slope / kStages;
  };
  m.call_s = a_call([](Tensor x) {
    for (int i = 0; i < kStages; ++i) x = sin(x);
    return x;
  });
  m.scan_step_s = step_seconds(1, [](const Tensor& x) { return nonlinear(x, 1); });
  // Some kernels that wait for one another, as the forces of most systems do.
  m.loop_pass_s = step_seconds(kSmall, [](Tensor x) {
    for (int i = 0; i < 3; ++i) x = x - 1e-3 * x * (x * x).sum();
    return x;
  });

  const long order = 256;
  const std::vector<double> a = Random(1).vector(order * order, -1, 1);
  std::vector<double> c(a.size());
  m.multiply_add_s =
      fastest(15,
              [&] {
                return seconds([&] {
                  gemm(order, order, order, a.data(), order, false, a.data(), order, false, c.data(), order);
                });
              }) /
      std::pow(order, 3);
}

// Each loop has another body, so that nothing is found compiled.
void measure_compiling(CostModel& m) {
  int next = 0;
  const auto compile = [&](int nodes) {
    const auto body = [&, which = next++](const Tensor& y) {
      Tensor x = y;
      for (int i = 0; i < nodes; i += 3)
        x = (which >> (i / 3 % 8) & 1) != 0 ? x * x * 0.5 + y : x + y * x * 0.5;
      return x;
    };
    const auto run = [&] {
      return seconds([&] { consume(scan(body, Tensor::full({64}, 0.5), 2).to_vector<double>()); });
    };
    const double first = run();
    return first - run();
  };
  compile(12);
  const double few = fastest(5, [&] { return compile(12); }), many = fastest(5, [&] { return compile(30); });
  const Line l = line(12, few, 30, many);
  m.kernel_compile_s = l.start;
  m.node_compile_s = l.slope;
}

// --- jumps ---

std::shared_ptr<const JumpSystem>& last_system() {
  static std::shared_ptr<const JumpSystem> system;
  return system;
}

// Never takes a jump: it is shown the system.
class Witness final : public Propagator {
 public:
  JumpEstimate estimate(const JumpTask&) const override { return {0, 0, "a witness", true}; }
  std::string build() override { return "a witness"; }
  JumpFindings jump(const JumpTask&) override { return {}; }
};

struct Jumper {
  std::shared_ptr<JumpSystem> system;
  std::vector<std::vector<double>> state, result;

  // The system that an evolve of `h` leads to, nothing of it read yet.
  Jumper(const std::function<Tensor(const Tensor&, const Tensor&)>& h, const Shape& shape,
         Integrator integrator = Integrator::LeapfrogKDK) {
    const Tensor q = Tensor::full(shape, 0.01), p = Tensor::full(shape, 0.02);
    const State end =
        System(h).evolve(State{q, p}, {.dt = 1e-3, .steps = kManySteps, .integrator = integrator});
    consume(end.q.to_vector<double>());
    const JumpSystem& s = *last_system();
    system = std::make_shared<JumpSystem>();
    system->kind = s.kind;
    system->integrator = s.integrator;
    system->separable = s.separable;
    system->sizes = s.sizes;
    system->shapes = s.shapes;
    system->map = s.map;
    system->groups = s.groups;
    system->captured = s.captured;
    system->is_number = s.is_number;
    for (const std::int64_t size : system->sizes) {
      state.push_back(Random(7).vector(size, -0.01, 0.01));
      result.emplace_back(static_cast<std::size_t>(size));
    }
  }

  double extract() const {
    return seconds([&] { (void)system->form(); });
  }
  double jump(Propagator& way, double h) {
    JumpTask task{.steps = kManySteps, .h = h, .has_loop = true, .state = {}, .out = {}};
    for (std::size_t i = 0; i < state.size(); ++i) {
      task.state.push_back(state[i].data());
      task.out.push_back(result[i].data());
    }
    JumpFindings f;
    const double t = seconds([&] { f = way.jump(task); });
    if (!f.refused.empty()) throw Wrong("the jump was refused: " + f.refused);
    return t;
  }
};

double build(Propagator& way) {
  std::string reason;
  const double t = seconds([&] { reason = way.build(); });
  if (!reason.empty()) throw Wrong("not built: " + reason);
  return t;
}

struct Cost {
  double extract, build, jump;
};

Cost modes_of(std::int64_t n) {
  const std::vector<double> a = Random(static_cast<std::uint64_t>(n)).vector(n * n, -1, 1);
  std::vector<double> k(a.size());
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      k[static_cast<std::size_t>(i * n + j)] =
          (a[static_cast<std::size_t>(i * n + j)] + a[static_cast<std::size_t>(j * n + i)]) /
              std::sqrt(static_cast<double>(n)) +
          (i == j ? 8.0 : 0.0);
  const Tensor table = Tensor::from(k, {n, n});
  Jumper j([&](const Tensor& q,
               const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * matmul(table, q)).sum(); },
           {n});
  Cost c{};
  c.extract = j.extract() / evaluation_work(j.system->map.get());
  const auto way = make_normal_modes(j.system);
  c.build = build(*way);
  j.jump(*way, 1e-3);
  c.jump = fastest(5, [&] { return j.jump(*way, 1e-3); });
  return c;
}

void measure_modes(CostModel& m) {
  constexpr double kSmall = 8, kMiddle = 96, kLarge = 640;
  const auto of = [](double n) { return modes_of(static_cast<std::int64_t>(n)); };
  (void)of(kSmall);
  const auto best = [&](double n, int count) {
    std::vector<Cost> all;
    for (int i = 0; i < count; ++i) all.push_back(of(n));
    const auto least = [&](double Cost::*part) {
      double t = all.front().*part;
      for (const Cost& c : all) t = std::min(t, c.*part);
      return t;
    };
    return Cost{least(&Cost::extract), least(&Cost::build), least(&Cost::jump)};
  };
  const Cost a = best(kSmall, 15), b = best(kMiddle, 7), c = best(kLarge, 3);
  m.extraction_s = c.extract;
  // Per row: a parabola through three points, its parts no less than none.
  const double ab = (b.build / kMiddle - a.build / kSmall) / (kMiddle - kSmall);
  const double bc = (c.build / kLarge - b.build / kMiddle) / (kLarge - kMiddle);
  m.modes_build_cubic_s = std::max(0.0, (bc - ab) / (kLarge - kSmall));
  m.modes_build_square_s = std::max(0.0, ab - m.modes_build_cubic_s * (kSmall + kMiddle));
  m.modes_build_row_s =
      std::max(0.0, a.build / kSmall - kSmall * (m.modes_build_square_s + m.modes_build_cubic_s * kSmall));
  const Line apply = line(kMiddle, b.jump / kMiddle, kLarge, c.jump / kLarge);
  m.modes_apply_square_s = apply.slope;
  m.modes_apply_row_s = apply.start;

  const std::int64_t n = 100'000;
  const Tensor k = Tensor::from(Random(5).vector(n, 1, 2));
  Jumper j([&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum(); },
           {n});
  (void)j.extract();
  const auto way = make_normal_modes(j.system);
  m.single_build_s = build(*way) / static_cast<double>(n);
  double dt = 1e-3;
  const double first = fastest(5, [&] { return j.jump(*way, dt *= 1.01); });
  const double again = fastest(5, [&] { return j.jump(*way, dt); });
  m.mode_power_s = (first - again) / static_cast<double>(n);
  m.single_apply_s = again / static_cast<double>(n);
}

void measure_powering(CostModel& m) {
  const std::int64_t n = 24;
  const Tensor k = Tensor::from(Random(6).vector(n * n, -0.01, 0.01), {n, n});
  Jumper j(
      [&](const Tensor& q, const Tensor& p) {
        return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() + (p * matmul(k, q)).sum();
      },
      {n}, Integrator::Exact);
  (void)j.extract();
  const auto way = make_powering(j.system);
  (void)build(*way);
  JumpTask task{.steps = kManySteps, .h = 1e-3, .has_loop = true, .state = {}, .out = {}};
  const double multiply_adds = way->estimate(task).build_s / cost_model().dd_multiply_add_s;
  double dt = 1e-3;
  m.dd_multiply_add_s = fastest(5, [&] { return j.jump(*way, dt *= 1.01); }) / multiply_adds;
}

// Springs to `reach` neighbours along both axes.
std::function<Tensor(const Tensor&, const Tensor&)> lattice_energy(int reach) {
  return [=](const Tensor& q, const Tensor& p) {
    Tensor h = 0.5 * (p * p).sum() + 0.5 * (q * q).sum();
    for (int r = 1; r <= reach; ++r)
      for (int axis = 0; axis < 2; ++axis) {
        const Tensor d = q.roll(r, axis) - q;
        h = h + (0.5 / r) * (d * d).sum();
      }
    return h;
  };
}

// An operation as the loops of systems do it: some fused kernels a step, each reading and writing arrays.
void measure_operations(CostModel& m) {
  struct Step {
    double seconds, operations;
  };
  const auto step = [](std::int64_t side) {
    const Jumper j(lattice_energy(1), {side, side});
    const System system(lattice_energy(1));
    const auto loop = [&](std::int64_t steps) {
      const State z{Tensor::full({side, side}, 0.01).clone(), Tensor::full({side, side}, 0.02).clone()};
      return seconds([&] {
        consume(system.evolve(z, {.dt = 1e-3, .steps = steps, .method = Method::Loop}).q.to_vector<double>());
      });
    };
    loop(1);
    const double t = fastest(9, [&] { return (loop(400) - loop(200)) / 200; });
    // The forces once, and what a kick, a drift and a kick add.
    return Step{t, estimate_seconds(j.system->map.get()) / cost_model().op_s +
                       6.0 * static_cast<double>(side * side)};
  };
  const Step a = step(48), b = step(96);
  m.op_s = line(a.operations, a.seconds, b.operations, b.seconds).slope;
}

void measure_lattices(CostModel& m) {
  if (!fft_available()) return;
  const std::int64_t side = 256;
  const auto points = static_cast<double>(side * side);
  struct Lattice {
    double probe, first, again;
  };
  const auto lattice = [&](int reach) {
    Jumper j(lattice_energy(reach), {side, side});
    Lattice l{};
    const auto way = make_lattice(j.system);
    l.probe = build(*way) / evaluation_work(j.system->map.get());
    double dt = 1e-3;
    l.first = fastest(7, [&] { return j.jump(*way, dt *= 1.01); });
    l.again = fastest(5, [&] { return j.jump(*way, dt); });
    return l;
  };
  const Lattice near = lattice(1), far = lattice(8);
  // 5 and 33 couplings a site.
  const Line modes =
      line(5, 2 * (near.first - near.again) / points, 33, 2 * (far.first - far.again) / points);
  m.lattice_probe_s = near.probe;
  m.lattice_tap_s = modes.slope;
  m.lattice_mode_s = modes.start;

  const std::int64_t shape[] = {side, side};
  const std::vector<double> x = Random(8).vector(side * side, -1, 1);
  std::vector<std::complex<double>> y(static_cast<std::size_t>(side * (side / 2 + 1)));
  fft_real(shape, x.data(), y.data());
  const double one = fastest(15, [&] { return seconds([&] { fft_real(shape, x.data(), y.data()); }); });
  m.fft_point_s = one / (points * std::log2(points));
  // The estimate has 2 n log2 n points' work of transforms, of n points of q and as many of p.
  m.lattice_point_s = std::max(0.0, near.again / (2 * points) - 2 * std::log2(2 * points) * m.fft_point_s);
}

}  // namespace

void calibrate() {
  const env::ScopedOverride one_thread("TINYPHYS_THREADS", "1");
  add_propagator(
      {"witness", false, [](std::shared_ptr<const JumpSystem> system) -> std::unique_ptr<Propagator> {
         last_system() = std::move(system);
         return std::make_unique<Witness>();
       }});
  CostModel measured{};
  const CostModel& used = cost_model();
  measure_loops(measured);
  measure_compiling(measured);
  measure_modes(measured);
  measure_powering(measured);
  measure_operations(measured);
  measure_lattices(measured);
  fmt::print("// {}; beside each the constant in use, of {}\n", this_machine().cpu, used.kind);
  for (const Constant& c : kConstants) {
    const double now = measured.*c.member, then = used.*c.member;
    fmt::print("     .{} = {:.2g},{:>{}}// {:.2g}, ratio {:.2f}\n", c.name, now, "",
               std::max<std::ptrdiff_t>(1, 32 - std::ssize(fmt::format(".{} = {:.2g},", c.name, now))), then,
               now / then);
  }
}

}  // namespace tinyphys::bench
