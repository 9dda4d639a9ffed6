// TINYPHYS_DEBUG_DIR: which files are written, that the drawings are whole, and that nothing is written without it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "needs_passes.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/build.hpp"
#include "uop/print.hpp"

namespace tp = tinyphys;
namespace fs = std::filesystem;
using tp::Tensor;

namespace {

struct Folder {
  fs::path path = fs::temp_directory_path() / ("tinyphys_dump_" + std::to_string(getpid()));
  Folder() { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }

  std::vector<std::string> names() const {
    std::vector<std::string> out;
    if (fs::exists(path))
      for (const auto& entry : fs::directory_iterator(path)) out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(path / name);
    REQUIRE_MESSAGE(file.is_open(), name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // The one file of that stage and extension, the first where there are more.
  std::string of_stage(const std::string& stage) const {
    for (const std::string& n : names())
      if (n.substr(5) == stage) return read(n);
    FAIL("no file of " << stage);
    return {};
  }
};

bool contains(const std::string& text, const std::string& what) { return text.find(what) != text.npos; }

// What is wrong with a drawing: braces or quotes that do not match, a node declared twice, an edge with an end that is no
// node. Empty when nothing is.
std::string problem(const std::string& dot) {
  std::set<std::string> declared, used;
  int depth = 0;
  std::istringstream lines(dot);
  for (std::string line; std::getline(lines, line);) {
    bool quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (quoted && line[i] == '\\') {
        ++i;
        continue;
      }
      if (line[i] == '"') quoted = !quoted;
      if (quoted) continue;
      depth += (line[i] == '{') - (line[i] == '}');
      if (depth < 0) return "a brace too many: " + line;
    }
    if (quoted) return "an open quote: " + line;
    std::istringstream words(line);
    std::string first, second, third;
    words >> first >> second >> third;
    if (second == "->") {
      used.insert(first);
      used.insert(third.substr(0, third.find(';')));
    } else if (second.starts_with("[label=") && !declared.insert(first).second) {
      return first + " is declared twice";
    }
  }
  if (depth != 0) return "a brace too few";
  if (declared.empty()) return "nothing is drawn";
  for (const std::string& id : used)
    if (!declared.contains(id)) return id + " is not declared";
  return {};
}

// A scan within the value, an evolution and a gather; the size is one that no other test has, so that the plan is new.
Tensor program(std::int64_t n) {
  const Tensor q0 = Tensor::linspace(0.0, 1.0, n), p0 = Tensor::zeros({n});
  const tp::System springs(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * 3.0 * (q * q).sum(); });
  const tp::State s = springs.evolve({q0, p0}, {.dt = 0.01, .steps = 100});
  const Tensor x = tp::scan([](const Tensor& v) { return v - 0.1 * v * v; }, s.q, 5);
  return (x * x).sum();
}

}  // namespace

TEST_CASE("a dump for each stage of a new plan, in order; every drawing is whole" *
          tp::testing::needs_passes()) {
  const Folder folder;
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string());
  Tensor value = program(211).realize();
  const std::vector<std::string> names = folder.names();
  std::vector<std::string> stages;
  for (const std::string& n : names) {
    CAPTURE(n);
    if (!n.ends_with(".dot")) continue;
    CHECK(n.substr(0, 4) == fmt::format("{:04}", stages.size()));
    stages.push_back(n.substr(5, n.size() - 9));
    CHECK(problem(folder.read(n)) == "");
    CHECK(fs::exists(folder.path / (n.substr(0, n.size() - 3) + "txt")));
  }
  const auto at = [&](const std::string& stage) {
    return std::find(stages.begin(), stages.end(), stage) - stages.begin();
  };
  const auto n = static_cast<std::ptrdiff_t>(stages.size());
  CHECK(at("recorded") == 0);
  CHECK(at("canonical") == 1);
  CHECK(at("after-evolve") > 1);
  CHECK(at("after-evolve") < at("plan"));
  CHECK(at("plan") < n);
  CHECK(std::count_if(stages.begin() + at("plan"), stages.end(),
                      [](const std::string& s) { return s.starts_with("kernel-"); }) > 0);

  // A node says its op, type, shape and place; the energy and the step are boxes, an edge leads out of them.
  const std::string recorded = folder.of_stage("recorded.dot");
  CHECK(contains(recorded, "EVOLVE LeapfrogKDK\\ntest_dump.cpp:"));
  CHECK(contains(recorded, "[label=\"MUL float64[211]\\ntest_dump.cpp:"));
  CHECK(contains(recorded, "subgraph cluster_body0"));
  CHECK(contains(recorded, "subgraph cluster_body1"));
  CHECK(contains(recorded, "  body0 -> n"));
  CHECK(contains(recorded, "  body1 -> n"));
  CHECK(contains(folder.of_stage("recorded.txt"), "= SCAN"));
  CHECK(contains(folder.of_stage("plan.dot"), "\\nfloat64[211]"));

  // The same program with other data finds the plan ready.
  value = program(211).realize();
  CHECK(folder.names() == names);
}

TEST_CASE("a kernel's text, LLVM's own form of it and the machine code have stable names" *
          tp::testing::needs_passes()) {
  const Folder folder;
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string()),
      device("TINYPHYS_DEVICE", "cpu");
  const Tensor x = Tensor::linspace(0.0, 1.0, 239);
  (2.5 * x * x).sum().item<double>();
  CHECK(contains(folder.of_stage("kernel-0.ll"), "define"));
  CHECK(contains(folder.of_stage("kernel-0.opt.ll"), "define"));
  CHECK(contains(folder.of_stage("kernel-0.asm"), "ret"));
}

TEST_CASE("a pass says its place and the rules that fired in it" * tp::testing::needs_passes()) {
  const Folder folder;
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string());
  program(241).realize();
  CHECK(contains(folder.of_stage("after-evolve.rules"), "pass evolve   pipeline.cpp:"));
  const std::string rules = folder.of_stage("after-bodies.rules");
  CHECK(rules.starts_with("pass bodies   pipeline.cpp:"));
  CHECK(contains(rules, "  =>  "));
  CHECK(contains(rules, "   by   "));
  CHECK(contains(rules, "rules_algebra.hpp:"));
  for (const std::string& n : folder.names()) CHECK_MESSAGE(n != "0000-recorded.rules", n);
}

TEST_CASE("fired rules are kept by the innermost, handed to the outer one, and counted past what is kept") {
  const Folder folder;
  {
    const tp::env::ScopedOverride off("TINYPHYS_DEBUG_DIR", "");
    const tp::FiredRules none;
    CHECK(!tp::FiredRules::count());
    CHECK(none.text().empty());
  }
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string());
  const tp::FiredRules outer;
  const auto fire = [](const char* line) {
    if (tp::FiredRules::count()) tp::FiredRules::keep(line);
  };
  fire("a");
  {
    const tp::FiredRules inner;
    fire("b");
    CHECK(inner.text() == "b\n");
    CHECK(outer.text() == "a\n");
  }
  CHECK(outer.text() == "a\nb\n");
  for (int i = 0; i < 10'001; ++i) fire("c");
  CHECK(outer.text().ends_with("c\nand 3 more\n"));
}

TEST_CASE("the first run of a plan tells the time of each step and the reports" *
          tp::testing::needs_passes()) {
  const Folder folder;
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string()),
      device("TINYPHYS_DEVICE", "cpu");
  Tensor value = program(251).realize();
  const std::string times = folder.of_stage("times.txt");
  const std::string plan = folder.of_stage("plan.txt");
  CAPTURE(times);
  CHECK(std::count(times.begin(), times.end(), '\n') >= std::count(plan.begin(), plan.end(), '\n') / 2);
  CHECK(contains(times, "kernel  1 run  "));
  CHECK(contains(times, " ms\n"));
  CHECK(contains(folder.of_stage("kernel-1.time"), " compiled in "));
  CHECK(folder.of_stage("explain.txt") == tp::explain(value).text);
}

TEST_CASE("a loop's steps are told with their number of runs" * tp::testing::needs_passes()) {
  const Folder folder;
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string()), unfused("TINYPHYS_OPT", "0");
  tp::scan([](const Tensor& v) { return v - 0.1 * v * v; }, Tensor::linspace(0.0, 1.0, 257), 6).realize();
  CHECK(contains(folder.of_stage("times.txt"), "  6 runs  "));
}

TEST_CASE("nothing is written without the folder's name") {
  const Folder folder;
  {
    const tp::env::ScopedOverride off("TINYPHYS_DEBUG_DIR", "");
    program(223).realize();
  }
  CHECK(folder.names().empty());
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string());
  program(227).realize();
  CHECK(!folder.names().empty());
}

TEST_CASE("a folder that cannot be written is told once and fails nothing") {
  const Folder folder;
  std::ofstream(folder.path) << "a file\n";
  const tp::DebugCapture err;
  const tp::env::ScopedOverride on("TINYPHYS_DEBUG_DIR", folder.path.string());
  CHECK((Tensor::ones({229}) * 2.0).sum().item<double>() == 458.0);
  const std::string told = err.text();
  CHECK(contains(told, "cannot write"));
  CHECK(std::count(told.begin(), told.end(), '\n') == 1);
}

TEST_CASE("drawings: shared bodies once, labels quoted, large graphs not") {
  CHECK(tp::dot_quoted("a \"b\" \\c\nd") == R"("a \"b\" \\c\nd")");
  // One step used by two scans, and by a scan within a step.
  const auto step = [](const Tensor& v) { return v * v; };
  const Tensor x = Tensor::ones({3});
  const Tensor twice = tp::scan(step, tp::scan(step, x, 5), 7);
  const Tensor nested = tp::scan([&](const Tensor& v) { return tp::scan(step, v, 3) + v; }, twice, 2);
  tp::Node* root = tp::uop(nested).get();
  const std::span<tp::Node* const> roots(&root, 1);
  const std::string dot = tp::to_dot(roots);
  CHECK(problem(dot) == "");
  CHECK(contains(dot, "cluster_body1"));
  CHECK(!contains(dot, "cluster_body2"));
  CHECK(contains(tp::to_dot(roots, 5), " nodes: see the text"));
  CHECK(problem(tp::to_dot(roots, 5)) == "");
}

TEST_CASE("each topic of TINYPHYS_DEBUG is told by a program, alone" * tp::testing::needs_passes()) {
  std::int64_t size = 233;  // of plans that are new
  for (const char* topic : {"graph", "rewrite", "physics", "schedule", "kernel", "source", "time"}) {
    const tp::DebugCapture err;
    {
      const tp::env::ScopedOverride on("TINYPHYS_DEBUG", topic);
      program(++size).realize();
    }
    const std::string told = err.text();
    CAPTURE(topic);
    CHECK(!told.empty());
    std::istringstream lines(told);
    for (std::string line; std::getline(lines, line);)
      CHECK(line.starts_with("[tinyphys " + std::string(topic) + "] "));
  }
}
