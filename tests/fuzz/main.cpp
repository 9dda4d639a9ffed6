// fuzz: random well-typed graphs, evaluated by the interpreter, the cpu and OpenCL, as they are and with TINYPHYS_OPT=0; all agree.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "fuzz/evaluators.hpp"
#include "fuzz/shrink.hpp"
#include "random_graph.hpp"
#include "random_scan.hpp"
#include "support/env.hpp"
#include "tinyphys/devices.hpp"
#include "uop/build.hpp"

namespace tinyphys::fuzz {
namespace {

using testing::random_scan;
using testing::RandomGraph;

constexpr std::string_view kHelp = R"(fuzz - random graphs by each evaluator

  fuzz [--graphs N] [--seed S] [--unfused K] [--opencl K] [--plant OP]

Makes N random graphs: every op that a tensor program can hold but evolutions (tests/physics has those), all dtypes, odd and
empty shapes, views of views, loops. Each is evaluated by the evaluator node by node, which is the reference; by the
interpreter and the cpu; by the interpreter, the cpu and OpenCL with TINYPHYS_OPT=0; and by OpenCL, where there is a device.

What they give is the same in all bits where every operation is exact. Where operations round, they may differ by 4 times as
much as the reference does when each operation is off by the ulp that it may be (4; on OpenCL up to 16, docs/devices.md),
up or down, and each sum by a rounding a term: the largest of 6 such samples, of 70 where 6 do not do.

A graph that fails is made smaller as long as it fails, and printed with its leaves and what came out.

  --graphs N    how many; 1000
  --seed S      graph i is made from seed S + i alone; 1
  --unfused K   every K-th graph on the cpu with TINYPHYS_OPT=0, too: a kernel an operation; 1
  --opencl K    every K-th graph on OpenCL; 1, 0: none
  --plant OP    as if the cpu gave the negative of OP: what a bug looks like

Exit codes: 0 all agree, 1 some do not, 2 the command line. TINYPHYS_CACHE_DIR keeps the kernels, else they are not kept.
)";

struct Usage {
  std::string message;
};

struct Options {
  std::int64_t graphs = 1000, seed = 1, unfused = 1, opencl = 1;
  Op planted = Op::SINK;
};

std::int64_t number(std::string_view option, std::string_view text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < 0)
    throw Usage{fmt::format("{} {}: not a whole number from 0", option, text)};
  return n;
}

Op op_named(std::string_view text) {
  for (int i = 0; i < kOpCount; ++i)
    if (name(static_cast<Op>(i)) == text && is_elementwise(static_cast<Op>(i))) return static_cast<Op>(i);
  throw Usage{fmt::format("--plant {}: no elementwise op", text)};
}

bool parse(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--help" || option == "-h") return false;
    std::int64_t* to = option == "--graphs"    ? &o.graphs
                       : option == "--seed"    ? &o.seed
                       : option == "--unfused" ? &o.unfused
                       : option == "--opencl"  ? &o.opencl
                                               : nullptr;
    if (!to && option != "--plant") throw Usage{fmt::format("unknown option {}", option)};
    if (++i == argc) throw Usage{fmt::format("{} needs a value", option)};
    if (to)
      *to = number(option, argv[i]);
    else
      o.planted = op_named(argv[i]);
  }
  return true;
}

// Ops that only passes make, that are no part of a value, or that hold no arithmetic of their own.
bool is_drawn(Op op) {
  switch (op) {
    case Op::SYM:
    case Op::COPY:
    case Op::PARAM:
    case Op::CHECK:
    case Op::SINK:
    case Op::SCAN_VJP:
    case Op::EVOLVE:
    case Op::EVOLVE_VJP:
    case Op::PROPAGATE:
    case Op::PROPAGATE_VJP: return false;
    default: return traits(op).cls != OpClass::kKernel;
  }
}

// Beside the short extents of RandomGraph one that is not a multiple of a vector.
Dims odd_shape(RandomGraph& random) {
  Dims s = random.shape();
  if (!s.empty() && random.one_in(2))
    s[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(s.size())))] =
        random.pick<std::int64_t>({5, 7, 8, 9, 15, 16, 17, 31, 33, 65});
  return s;
}

std::vector<UOp> random_roots(std::uint64_t seed) {
  RandomGraph random(seed, seed % 2 == 0);
  const Dims shape = odd_shape(random);
  const auto value = [](Op op) {
    return is_elementwise(op) || is_movement(op) || op == Op::REDUCE || traits(op).cls == OpClass::kWhole;
  };
  std::vector<UOp> pool;
  if (!shape.empty() && random.one_in(4))
    pool.push_back(broadcast_to(cast(iota(shape.back()), random.dtype()), shape));
  pool = random.grow(2 + random.below(random.one_in(8) ? 30 : 8), shape, value, std::move(pool));
  const RandomGraph::Source source = [&](DType d, const Dims& s) { return random.from(pool, d, s); };
  const auto complex = [&] { return random.one_in(2) ? DType::kComplex128 : DType::kComplex64; };
  if (random.one_in(3)) pool.push_back(random.complex(complex(), shape, 2, source));
  if (random.one_in(3)) {  // a transform, of pairs or to pairs
    Dims pairs = shape;
    pairs.push_back(2);
    const DType d = random.one_in(2) ? DType::kFloat64 : DType::kFloat32;
    const Op op = random.pick<Op>({Op::FFT, Op::RFFT, Op::IRFFT});
    if (UOp u = random.node(op, d, op == Op::IRFFT ? shape : pairs, source)) pool.push_back(std::move(u));
  }
  if (random.one_in(3))
    pool.push_back(random_scan(random, random.one_in(5) ? complex() : random.dtype(), shape, source));
  for (std::int64_t more = random.below(4); more > 0; --more)
    if (UOp u = random.node(static_cast<Op>(random.below(kOpCount)), random.dtype(), shape, source))
      if (value(u->op)) pool.push_back(std::move(u));

  // What nothing else uses, and some of the rest; nothing that is constant, as its value would be known from another run.
  std::set<const Node*> used;
  for (const UOp& u : pool)
    for (Node* s : u->src()) used.insert(s);
  std::vector<UOp> roots;
  for (UOp& u : pool)
    if ((u->flags & Node::kHasBuffer) && u->op != Op::BUFFER && (!used.contains(u.get()) || random.one_in(6)))
      roots.push_back(std::move(u));
  return roots;
}

// Why the evaluator's values are not right; empty where they are.
std::string problem(const std::vector<UOp>& roots, const Evaluator& by, Op planted) {
  // What cannot be computed at all is none of the evaluators' business.
  std::string error;
  try {
    (void)reference(roots);
  } catch (const std::exception& e) {
    error = e.what();
  }
  Values got;
  try {
    got = realized(roots, by, by.device == "cpu" ? planted : Op::SINK);
  } catch (const std::exception& e) {
    return error.empty() ? fmt::format("  {}\n", e.what()) : "";
  }
  if (!error.empty()) return fmt::format("  there is a value, and the reference throws {}\n", error);
  Allowed allowed(roots, by.device == "cl");
  if (allowed.contains(got)) return {};
  std::string text;
  int told = 0;
  for (std::size_t r = 0; r < got.size(); ++r) {
    const Value<double>& want = allowed.reference()[r];
    if (got[r].dtype != want.dtype || got[r].shape != want.shape)
      return fmt::format("  root {} is {}{}\n", r, name(got[r].dtype), shape_text(got[r].shape));
    for (std::size_t i = 0; i < got[r].size(); ++i)
      if (!allowed.contains(got[r], r, i) && told++ < 4)
        text += fmt::format("  root {} element {}: {}, reference {}, may differ by {:.3g}\n", r, i,
                            element_text(got[r], i), element_text(want, i), 4 * allowed.deviation(r, i));
  }
  return text;
}

int run(const Options& o) {
  bool opencl = o.opencl > 0;
  if (opencl) {
    opencl = false;
    for (const DeviceInfo& d : devices())
      if (d.name == "cl") {
        opencl = d.available && d.float64;
        if (!opencl) fmt::print("OpenCL is left out: {}\n", d.description);
      }
  }
  std::set<Op> drawn;
  std::int64_t failed = 0, on_opencl = 0, unfused = 0, roots_made = 0;
  for (std::int64_t k = 0; k < o.graphs; ++k) {
    const auto seed = static_cast<std::uint64_t>(o.seed + k);
    const std::vector<UOp> roots = random_roots(seed);
    if (roots.empty()) continue;
    roots_made += static_cast<std::int64_t>(roots.size());
    std::vector<Node*> nodes;
    for (const UOp& r : roots) nodes.push_back(r.get());
    for (Node* n : toposort(nodes)) drawn.insert(n->op);
    std::vector<Evaluator> evaluators{{"interp"}, {"interp", false}, {"cpu"}};
    if (o.unfused > 0 && k % o.unfused == 0) evaluators.push_back({"cpu", false}), ++unfused;
    if (opencl && k % o.opencl == 0) {
      evaluators.push_back({"cl"});
      if (o.unfused > 0 && k % o.unfused == 0) evaluators.push_back({"cl", false});
      ++on_opencl;
    }
    for (const Evaluator& by : evaluators) {
      if (problem(roots, by, o.planted).empty()) continue;
      ++failed;
      const std::vector<UOp> least =
          shrink(roots, [&](const std::vector<UOp>& r) { return !problem(r, by, o.planted).empty(); });
      fmt::print("seed {}: {} is wrong; the smallest such graph:\n{}{}\n", seed, by.text(),
                 to_readable(least), problem(least, by, o.planted));
      std::fflush(stdout);
      break;
    }
  }
  if (o.graphs >= 500)
    for (int i = 0; i < kOpCount; ++i)
      if (is_drawn(static_cast<Op>(i)) && !drawn.contains(static_cast<Op>(i))) {
        fmt::print("{} was never drawn\n", name(static_cast<Op>(i)));
        ++failed;
      }
  fmt::print(
      "{} graphs from seed {}, {} values, {} ops: {} by the cpu with TINYPHYS_OPT=0, {} by OpenCL; {} "
      "wrong\n",
      o.graphs, o.seed, roots_made, drawn.size(), unfused, on_opencl, failed);
  return failed > 0 ? 1 : 0;
}

}  // namespace
}  // namespace tinyphys::fuzz

int main(int argc, char** argv) {
  using namespace tinyphys::fuzz;
  // No machine differs from another in what a loop becomes.
  if (!std::getenv("TINYPHYS_COST_MODEL")) tinyphys::env::set_override("TINYPHYS_COST_MODEL", "amd-zen4");
  if (!std::getenv("TINYPHYS_CACHE") && !std::getenv("TINYPHYS_CACHE_DIR"))
    tinyphys::env::set_override("TINYPHYS_CACHE", "0");
  try {
    Options options;
    if (parse(argc, argv, options)) return run(options);
    fmt::print("{}", kHelp);
    return 0;
  } catch (const Usage& e) {
    fmt::print(stderr, "fuzz: {}\nTry --help.\n", e.message);
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "fuzz: {}\n", e.what());
    return 1;
  }
}
