// Whole texts of a few programs: the graph after the passes, the plan, the kernels as LLVM IR. A change of any of them shows
// as a diff of tests/golden/; TINYPHYS_UPDATE_GOLDEN=1 writes the files anew. Kernels are those of the null device,
// whose target is fixed; places (file:line) are left out, since equal nodes of other tests may have been there first.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "codegen/kernel.hpp"
#include "engine/canonical.hpp"
#include "engine/pipeline.hpp"
#include "needs_passes.hpp"
#include "runtime/device.hpp"
#include "schedule/plan.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tp = tinyphys;
namespace fs = std::filesystem;
using tp::Tensor;

namespace {

const fs::path kFolder = fs::path(TINYPHYS_SOURCE_DIR) / "tests/golden";

struct Program {
  const char* name;
  std::vector<Tensor> (*values)();
};

Tensor data(std::int64_t n) { return Tensor::from(std::vector<double>(static_cast<std::size_t>(n), 0.25)); }

std::vector<Tensor> elementwise_and_sum() {
  const Tensor x = data(1000);
  const Tensor y = sin(x) * exp(-x * x) + x / 2.0;
  return {y, y.sum()};
}

// Nonlinear: a whole loop in one kernel.
std::vector<Tensor> pendulum_scan() {
  const auto step = [](const Tensor& q, const Tensor& p) {
    const Tensor kicked = p - 0.01 * sin(q);
    return std::tuple{q + 0.01 * kicked, kicked};
  };
  const auto [q, p] = tp::scan(step, std::tuple{data(2), data(2)}, 1000);
  return {q, p};
}

// Quadratic: a jump, with the loop beside it.
std::vector<Tensor> evolve_chain() {
  const tp::System chain([](const Tensor& q, const Tensor& p) {
    const Tensor walled = q.pad({{1, 1}});
    const Tensor stretch = walled.slice(0, 1) - walled.slice(0, 0, -1);
    const Tensor potential = 0.5 * 40.0 * (stretch * stretch).sum();
    return 0.5 * (p * p).sum() + potential;
  });
  const tp::State s = chain.evolve({data(4), data(4)}, {.dt = 1e-3, .steps = 1'000'000});
  return {s.q};
}

std::vector<Tensor> gather_rows() {
  const Tensor table = data(60).reshape({20, 3});
  const Tensor rows = Tensor::from(std::vector<std::int64_t>{3, 1, 19, 3});
  return {gather(table, rows) * 2.0};
}

constexpr std::array kPrograms{
    Program{"elementwise_and_sum", elementwise_and_sum},
    Program{"pendulum_scan", pendulum_scan},
    Program{"evolve_chain", evolve_chain},
    Program{"gather_rows", gather_rows},
};

std::string without_places(const std::string& text) {
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t begin = line.find_first_not_of(' ');
    out += line.substr(0, line.find("   ", begin)) + "\n";
  }
  return out;
}

tp::ScheduleOptions schedule_options() {
  tp::ScheduleOptions options;
  options.fits_kernel = [](const tp::Node* scan) {
    long ops = 0;
    return tp::fits_scan_kernel(scan, ops);
  };
  return options;
}

// The kernels of a plan, each once, and the loop beside each jump.
void add_kernels(const tp::Plan& plan, std::vector<const tp::Node*>& seen, std::string& out) {
  for (const tp::PlanStep& s : plan.steps) {
    if (s.body) add_kernels(*s.body, seen, out);
    if (s.code && s.code->op == tp::Op::PROPAGATE) {
      const auto loop = tp::schedule(tp::PropagateView(s.code.get()).loop(), schedule_options());
      out += "\n== plan of the loop\n" + to_text(*loop);
      add_kernels(*loop, seen, out);
    }
    if (s.kind != tp::PlanOp::kKernel || std::find(seen.begin(), seen.end(), s.code.get()) != seen.end())
      continue;
    seen.push_back(s.code.get());
    out += "\n== kernel\n" + tp::compile(tp::device("null"), s.code)->text();
  }
}

std::string text_of(const std::vector<Tensor>& values) {
  std::vector<tp::UOp> roots;
  for (const Tensor& v : values) roots.push_back(tp::uop(v));
  const tp::UOp program = tp::run_passes(tp::canonicalize(roots).program, {});
  const auto plan = tp::schedule(program.get(), schedule_options());
  std::string out = "== after the passes\n" + without_places(tp::to_text(program));
  out += "\n== plan\n" + to_text(*plan);
  std::vector<const tp::Node*> seen;
  add_kernels(*plan, seen, out);
  return out;
}

std::string read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The first line in which two texts differ, for the reader of a failure.
std::string first_difference(const std::string& a, const std::string& b) {
  std::istringstream lines_a(a), lines_b(b);
  std::string x, y;
  for (int number = 1;; ++number) {
    const bool more_a = static_cast<bool>(std::getline(lines_a, x));
    const bool more_b = static_cast<bool>(std::getline(lines_b, y));
    if (!more_a && !more_b) return "none";
    if (more_a && more_b && x == y) continue;
    return "line " + std::to_string(number) + "\n  file: " + (more_a ? x : "(ends)") +
           "\n  now:  " + (more_b ? y : "(ends)");
  }
}

}  // namespace

TEST_CASE("golden: graphs after the passes, plans and kernels" * tp::testing::needs_passes()) {
  for (const Program& p : kPrograms) {
    const fs::path path = kFolder / (std::string(p.name) + ".txt");
    const std::string now = text_of(p.values());
    if (tp::env::update_golden()) std::ofstream(path) << now;
    const std::string file = read(path);
    CAPTURE(p.name);
    CHECK_MESSAGE(file == now, "TINYPHYS_UPDATE_GOLDEN=1 writes it anew; the first difference: ",
                  first_difference(file, now));
  }
}

TEST_CASE("golden: each file is a program's") {
  std::set<std::string> files, programs;
  for (const auto& entry : fs::directory_iterator(kFolder)) files.insert(entry.path().stem().string());
  for (const Program& p : kPrograms) programs.insert(p.name);
  CHECK(files == programs);
}
