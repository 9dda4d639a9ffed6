// A tolerance is validated, scoped, recorded, shown, kept by derivatives and batches, and changes nothing.
#include <cmath>
#include <limits>
#include <thread>

#include <nlohmann/json.hpp>

#include "test_tensor_helpers.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys::testing {
namespace {

const System& springs() {
  static const System s(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  return s;
}
State start() { return {Tensor::from({1.0, -2.0}), Tensor::from({0.0, 0.5})}; }
const EvolveOptions kPlain{.dt = 0.01, .steps = 1000};

std::vector<double> recorded(const Tensor& t) {
  std::vector<double> found;
  for (const Node* n : toposort(uop(t)))
    if (n->op == Op::EVOLVE || n->op == Op::EVOLVE_VJP) found.push_back(EvolveView(n).record().tolerance);
  return found;
}

}  // namespace

TEST_CASE("tolerance: scopes nest and hold on their own thread") {
  CHECK(current_tolerance() == 0);
  {
    const auto outer = tolerance(1e-4);
    CHECK(current_tolerance() == 1e-4);
    {
      const auto inner = tolerance(1.0);
      CHECK(current_tolerance() == 1);
      double elsewhere = -1;
      std::thread([&] { elsewhere = current_tolerance(); }).join();
      CHECK(elsewhere == 0);
    }
    CHECK(current_tolerance() == 1e-4);
    CHECK_THROWS_AS(
        [] {
          const auto inner = tolerance(1e-2);
          throw Error("test", "");
        }(),
        Error);
    CHECK(current_tolerance() == 1e-4);
  }
  CHECK(current_tolerance() == 0);
}

TEST_CASE("tolerance: mistakes") {
  const double inf = std::numeric_limits<double>::infinity();
  const std::pair<double, std::string> wrong[] = {{0.0, "0"},   {-1e-3, "-0.001"}, {1.5, "1.5"},
                                                  {inf, "inf"}, {-inf, "-inf"},    {std::nan(""), "nan"}};
  for (const auto& [v, text] : wrong) {
    const std::string why = "the tolerance is " + text + ", it must be above 0 and at most 1";
    CHECK(message([&, x = v] { const auto scope = tolerance(x); }) == error_at("[tolerance] " + why));
    CHECK(message([&, x = v] { springs().evolve(start(), {.dt = 0.1, .steps = 1, .tol = x}); }) ==
          error_at("[evolve] " + why));
  }
  CHECK(current_tolerance() == 0);
}

TEST_CASE("tolerance: an evolution records it, and so do its derivatives and batches") {
  EvolveOptions given = kPlain;
  given.tol = 1e-6;
  CHECK(recorded(springs().evolve(start(), kPlain).q) == std::vector<double>{0});
  CHECK(recorded(springs().evolve(start(), given).q) == std::vector<double>{1e-6});
  const auto scope = tolerance(1e-4);
  CHECK(recorded(springs().evolve(start(), kPlain).q) == std::vector<double>{1e-4});
  CHECK(recorded(springs().evolve(start(), given).q) == std::vector<double>{1e-6});

  const auto far = [](const Tensor& q) { return springs().evolve({q, q}, kPlain).q; };
  const auto loss = [&](const Tensor& q) { return (far(q) * far(q)).sum(); };
  const Tensor x = Tensor::from({1.0, 2.0}), batch = stack({x, 2.0 * x});
  for (const Tensor& t : {grad(loss)(x), jvp(far, {x}, {x}).second, vmap(far)(batch), vmap(grad(loss))(batch),
                          jvp(grad(loss), {x}, {x}).second, hessian(loss)(x)}) {
    const auto found = recorded(t);
    CHECK(!found.empty());
    for (double v : found) CHECK(v == 1e-4);
  }
}

TEST_CASE("tolerance: shown, and without effect") {
  const State plain = springs().evolve(start(), kPlain);
  EvolveOptions given = kPlain;
  given.tol = 1e-4;
  const State allowed = springs().evolve(start(), given);
  CHECK(to_text(uop(allowed.q)).find("LeapfrogKDK tol 1e-4 ") != std::string::npos);
  CHECK(to_text(uop(plain.q)).find(" tol ") == std::string::npos);
  CHECK(explain(allowed.q).text.find("1,000 steps, LeapfrogKDK, dt 0.01, tol 1e-4, q and p float64[2]") !=
        std::string::npos);
  CHECK(explain(plain.q).text.find(" tol ") == std::string::npos);
  CHECK(nlohmann::json::parse(explain(allowed.q).json())["entries"][0][0]["numbers"]["tolerance"] == 1e-4);
  CHECK(doubles(allowed.q) == doubles(plain.q));
  CHECK(doubles(allowed.p) == doubles(plain.p));
  given.tol = 0.5;
  CHECK(explain(springs().evolve(start(), given).q).text.find("tol 0.5,") != std::string::npos);
}

}  // namespace tinyphys::testing
