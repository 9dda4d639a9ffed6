#include <doctest/doctest.h>

#include "derive/gradient.hpp"
#include "tensor/access.hpp"
#include "tensor/system.hpp"
#include "test_gradient.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/transforms.hpp"
#include "uop/scan_layout.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

// EVOLVE by its definition, for LeapfrogKDK: a SCAN of steps. The engine's own pass does it better.
std::vector<UOp> leapfrog(const Node* n) {
  const EvolveView evolve(n);
  ScanSpec s;
  s.index = symbol(DType::kInt64, {});
  s.steps = const_int(evolve.steps());
  std::vector<UOp> args;
  for (Node* x : {evolve.q(), evolve.p()}) {
    s.carry.push_back(UOp::share(x));
    s.carry_params.push_back(symbol(x->dtype, x->shape()));
  }
  std::vector<Node*> captured(evolve.captured().begin(), evolve.captured().end());
  captured.push_back(evolve.dt());
  for (Node* x : captured) {
    s.captured.push_back(UOp::share(x));
    s.captured_params.push_back(symbol(x->dtype, x->shape()));
  }
  const UOp q = s.carry_params[0], p = s.carry_params[1], h = s.captured_params.back();
  auto force = [&](const UOp& at_q, const UOp& at_p, std::size_t which) {
    std::vector<UOp> in{at_q, at_p};
    in.insert(in.end(), s.captured_params.begin(), s.captured_params.end() - 1);
    const UOp energy = tinyphys::apply(evolve.energy(), in).front();
    return gradient(energy, std::vector<UOp>{in[which]}).front();
  };
  // Half a kick and a drift at symbols of their own, so that gradients are taken by the state alone.
  auto at = [&](const UOp& f, const UOp& q1, const UOp& p1) {
    return substitute(f, [&](Node* x) { return x == q.get() ? q1 : x == p.get() ? p1 : UOp(); });
  };
  const UOp slope_q = force(q, p, 0), slope_p = force(q, p, 1);
  const UOp half = broadcast_to(scaled(h, 0.5), q->shape()), whole = broadcast_to(h, q->shape());
  const UOp p1 = sub(p, mul(half, slope_q));
  const UOp q1 = add(q, mul(whole, at(slope_p, q, p1)));
  s.outputs = {q1, sub(p1, mul(half, at(slope_q, q1, p1)))};
  const UOp scan = make_scan(s);
  return {get(scan, 0), get(scan, 1)};
}

UOp without_evolve(UOp root) {
  root = lower_vjps(std::span(&root, 1)).front();
  for (;;) {
    NodeMap<std::vector<UOp>> loops;
    bool any = false;
    const auto order = toposort(root);
    // Innermost first: the sources of the one that is replaced hold no other.
    for (Node* n : order)
      if (n->op == Op::EVOLVE && !any) {
        loops.insert(n, leapfrog(n));
        any = true;
      }
    if (!any) return root;
    root = substitute(root, [&](Node* n) {
      const auto* loop = n->op == Op::GET ? loops.find(n->src(0)) : nullptr;
      return loop ? (*loop)[static_cast<std::size_t>(n->arg(0))] : UOp();
    });
  }
}
Row values(const Tensor& t) { return Bench().run(without_evolve(uop(t))); }
void check_close(const Row& a, const Row& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-12).scale(1));
}

struct Chain {
  Tensor k = Tensor::from({1.0, 2.0, 0.5}), m = Tensor::from({1.0, 0.5, 2.0});
  System system() const {
    return System([*this](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p / m).sum() + (k * (1.0 - cos(q))).sum() + 0.1 * (q * q.roll(1, 0)).sum();
    });
  }
};
const Tensor& q0() {
  static const Tensor t = Tensor::from({0.5, -0.3, 1.0});
  return t;
}
const Tensor& p0() {
  static const Tensor t = Tensor::from({0.1, 0.7, -0.2});
  return t;
}
// The same motion as a plain scan over tensors.
State by_scan(const Chain& c, const State& s, const Tensor& h, std::int64_t n) {
  const auto kick = [&](const Tensor& q, const Tensor& p) {
    const auto v = [&](const Tensor& x) {
      return (c.k * (1.0 - cos(x))).sum() + 0.1 * (x * x.roll(1, 0)).sum();
    };
    return p - 0.5 * h * grad(v)(q);
  };
  return scan(
      [&](const State& z) {
        const Tensor p = kick(z.q, z.p), q = z.q + h * p / c.m;
        return State{q, kick(q, p)};
      },
      s, n);
}

}  // namespace

TEST_CASE("evolve records one node") {
  const System sys = Chain().system();
  const State s = sys.evolve({q0(), p0()}, {.dt = 1e-3, .steps = 1'000'000'000});
  const UOp q = uop(s.q), p = uop(s.p);
  REQUIRE(q->op == Op::GET);
  REQUIRE(q->src(0)->op == Op::EVOLVE);
  CHECK(p->src(0) == q->src(0));
  const EvolveView view(q->src(0));
  CHECK(const_double(view.dt()) == 1e-3);
  CHECK(const_int(view.steps()) == 1'000'000'000);
  CHECK(view.record().integrator == Integrator::LeapfrogKDK);
  CHECK(view.record().method == Method::Default);
  // Asked again: the same node. Other dt: another node with the same body.
  CHECK(uop(sys.evolve({q0(), p0()}, {.dt = 1e-3, .steps = 1'000'000'000}).q) == q);
  const UOp other = uop(sys.evolve({q0(), p0()}, {.dt = 2e-3, .steps = 10, .method = Method::Loop}).q);
  CHECK(other != q);
  CHECK(other->src(0)->src(0) == view.energy());
}

TEST_CASE("energy and H that ignores an argument") {
  const State s{q0(), p0()};
  const System free([](const Tensor&, const Tensor& p) { return 0.5 * (p * p).sum(); });
  CHECK(values(free.energy(s))[0] == doctest::Approx(0.5 * (0.01 + 0.49 + 0.04)).epsilon(1e-15));
  const State moved = free.evolve(s, {.dt = 0.5, .steps = 4});
  check_close(values(moved.q), values(q0() + 2.0 * p0()));
  CHECK(values(moved.p) == values(p0()));
}

TEST_CASE("derivatives of an evolution equal those of the loop") {
  const Chain chain;
  const auto loss = [&](bool evolve, std::int64_t n) {
    return [&chain, evolve, n](const Tensor& q, const Tensor& p, const Tensor& k, const Tensor& h) {
      Chain c = chain;
      c.k = k;
      const State s = evolve ? c.system().evolve({q, p}, {.dt = h, .steps = n}) : by_scan(c, {q, p}, h, n);
      return (s.q * s.q).sum() + (s.q * s.p).sum();
    };
  };
  const Tensor h = Tensor::from({0.1}, Shape{});
  CHECK(values(loss(true, 5)(q0(), p0(), chain.k, h))[0] ==
        doctest::Approx(values(loss(false, 5)(q0(), p0(), chain.k, h))[0]).epsilon(1e-13));
  const auto [gq, gp, gk, gh] = grad(loss(true, 5))(q0(), p0(), chain.k, h);
  const auto [lq, lp, lk, lh] = grad(loss(false, 5))(q0(), p0(), chain.k, h);
  check_close(values(gq), values(lq));
  check_close(values(gp), values(lp));
  check_close(values(gk), values(lk));
  check_close(values(gh), values(lh));
  SUBCASE("forward: the tangent-lifted system, dt included") {
    const Tensor one = Tensor::from({1.0}, Shape{});
    const auto [x, dx] = jvp(loss(true, 5), {q0(), p0(), chain.k, h}, {p0(), q0(), chain.m, one});
    const auto [y, dy] = jvp(loss(false, 5), {q0(), p0(), chain.k, h}, {p0(), q0(), chain.m, one});
    check_close(values(dx), values(dy));
    // It is an EVOLVE again, so that passes see it.
    bool found = false;
    for (Node* n : toposort(uop(dx))) {
      CHECK(n->op != Op::SCAN);
      found |= n->op == Op::EVOLVE && n->src(3)->shape().size() == 2;
    }
    CHECK(found);
  }
  SUBCASE("second derivatives") {
    const auto in_q = [&](bool evolve) {
      return [&, evolve](const Tensor& q) { return loss(evolve, 3)(q, p0(), chain.k, h); };
    };
    check_close(values(hessian(in_q(true))(q0())), values(hessian(in_q(false))(q0())));
    const auto slope = [&](bool evolve) {
      return [&, evolve](const Tensor& q) { return (grad(in_q(evolve))(q) * chain.m).sum(); };
    };
    check_close(values(grad(slope(true))(q0())), values(grad(slope(false))(q0())));
  }
  SUBCASE("a batch of systems, and of time steps") {
    const Tensor qs = stack({q0(), p0()}), hs = Tensor::from({0.1, 0.2});
    const auto final_q = [&](bool evolve) {
      return [&, evolve](const Tensor& q, const Tensor& step) {
        return evolve ? chain.system().evolve({q, p0()}, {.dt = step, .steps = 4}).q
                      : by_scan(chain, {q, p0()}, step, 4).q;
      };
    };
    check_close(values(vmap(final_q(true))(qs, hs)), values(vmap(final_q(false))(qs, hs)));
    const auto slope = [&](bool evolve) {
      return [&, evolve](const Tensor& q, const Tensor& step) {
        return std::tuple{grad([&](const Tensor& x) { return final_q(evolve)(x, step).sum(); })(q),
                          grad([&](const Tensor& x) { return final_q(evolve)(q, x).sum(); })(step)};
      };
    };
    const auto [a, b] = vmap(slope(true))(qs, hs);
    const auto [c, d] = vmap(slope(false))(qs, hs);
    check_close(values(a), values(c));
    check_close(values(b), values(d));
  }
}

TEST_CASE("progress callbacks stand beside the node") {
  const System sys = Chain().system();
  int calls = 0;
  UOp evolve;
  {
    const State s = sys.evolve({q0(), p0()}, {.dt = 0.25, .steps = 8, .progress = [&](const Progress& p) {
                                                calls += static_cast<int>(p.done);
                                              }});
    evolve = uop(s.q).src(0);
    CHECK(uop(sys.evolve({q0(), p0()}, {.dt = 0.25, .steps = 8}).q).src(0) == evolve);
  }
  const auto callback = progress_callback(evolve.get());
  REQUIRE(callback);
  callback({.fraction = 0.5, .done = 4, .total = 8, .elapsed_seconds = 0});
  CHECK(calls == 4);
  const std::uint32_t held = evolve->refs.load();
  evolve = uop(sys.evolve({q0(), p0()}, {.dt = 0.125, .steps = 8}).q).src(0);
  CHECK_FALSE(progress_callback(evolve.get()));
  CHECK(held >= 2);
}

TEST_CASE("evolve mistakes") {
  const Tensor q = q0(), p = p0();
  const System sys = Chain().system();
  const auto h_of = [](const std::function<Tensor(const Tensor&, const Tensor&)>& h) { return System(h); };
  auto contains = [](const char* s) { return doctest::Contains(s); };
  const EvolveOptions fine{.dt = 0.1, .steps = 1};
  CHECK_THROWS_WITH_AS(h_of([](const Tensor& a, const Tensor& b) { return a * b; }).evolve({q, p}, fine),
                       contains("[evolve] H must return a scalar, the energy; it returns float64[3]"), Error);
  CHECK_THROWS_WITH_AS(
      h_of([](const Tensor& a, const Tensor&) { return (a > 0.0).all(); }).evolve({q, p}, fine),
      contains("H must return float64; it returns bool[]"), Error);
  CHECK_THROWS_WITH_AS(h_of([](const Tensor&, const Tensor&) { return as_tensor(1); }).energy({q, p}),
                       contains("[energy] H must return float64; it returns int64[]"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({q, Tensor::zeros({2})}, fine),
                       contains("q is float64[3], p is float64[2]"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({q.astype(DType::kFloat32), p}, fine),
                       contains("the state must be float64 for now: q is float32[3]"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({q, p}, {.dt = 0.1, .steps = -5}), contains("steps is -5"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({q, p}, {.dt = std::numeric_limits<double>::infinity(), .steps = 5}),
                       contains("must be finite"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({q, p}, {.steps = 5}), contains("dt must be given"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({q, p}, {.dt = q, .steps = 5}),
                       contains("dt must be a float64 scalar, got float64[3]"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({q, p}, {.dt = 0.1, .steps = -5}), contains("(test_system.cpp:"), Error);
  CHECK_THROWS_WITH_AS(sys.evolve({Tensor(), p}, fine), contains("[evolve]"), Error);
}

TEST_CASE("system: a dt that is no number is one error, however it is given") {
  for (const int degree : {2, 4}) {
    const tinyphys::System s([=](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + (degree == 2 ? q * q : q * q * q * q).sum();
    });
    const tinyphys::State z{Tensor::from({1.0}), Tensor::from({0.0})};
    for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
      CHECK_THROWS_AS((void)s.evolve(z, {.dt = Tensor(bad), .steps = 3}), tinyphys::Error);
      CHECK_THROWS_AS(s.evolve(z, {.dt = Tensor::from({bad})[0], .steps = 3}).q.item<double>(),
                      tinyphys::Error);
    }
  }
}

TEST_CASE("save_every gives the states on the way") {
  const System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const System quartic(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.25 * (q * q * q * q).sum(); });
  const State start{Tensor::from({1.0, 2.0}), Tensor::from({0.5, 0.0}), Tensor::from({3.0}).sum()};
  for (const System* system : {&spring, &quartic}) {
    const State path = system->evolve(start, {.dt = 0.01, .steps = 120, .save_every = 30});
    CHECK(path.q.shape() == Shape{5, 2});
    CHECK(path.p.shape() == Shape{5, 2});
    CHECK(path.t.shape() == Shape{5});
    State one = start;
    for (std::int64_t row = 0; row <= 4; ++row) {
      CAPTURE(row);
      CHECK(path.q[row].to_vector<double>() == one.q.to_vector<double>());
      CHECK(path.p[row].to_vector<double>() == one.p.to_vector<double>());
      CHECK(path.t[row].item<double>() ==
            doctest::Approx(3.0 + 0.3 * static_cast<double>(row)).epsilon(1e-15));
      one = system->evolve(one, {.dt = 0.01, .steps = 30});
    }
  }
  CHECK(spring.evolve(start, {.dt = 0.01, .steps = 0, .save_every = 7}).q.shape() == Shape{1, 2});
  CHECK(spring.evolve(start, {.dt = 0.01, .steps = 7, .save_every = 7.0}).q.shape() == Shape{2, 2});
}

TEST_CASE("save_every: the time goes on, derivatives pass, bad numbers are told") {
  // H(q, p, t) = p^2/2 - q t under a constant growth of the force: q'' = t.
  const System driven(
      [](const Tensor& q, const Tensor& p, const Tensor& t) { return 0.5 * (p * p).sum() - (q * t).sum(); });
  const State rest{Tensor::zeros({1}), Tensor::zeros({1})};
  const State path = driven.evolve(rest, {.dt = 1e-3, .steps = 2000, .save_every = 500});
  for (std::int64_t row = 0; row <= 4; ++row) {
    const double t = 0.5 * static_cast<double>(row);
    CHECK(path.q[row].item<double>() == doctest::Approx(t * t * t / 6).epsilon(1e-5));
  }
  // d/dq0 of q0 cos t, summed over the rows.
  const System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const Tensor q0 = Tensor::from({1.0});
  const State s = spring.evolve({q0, Tensor::zeros({1})}, {.dt = 1e-3, .steps = 3000, .save_every = 1000});
  const Tensor g = gradient(s.q.sum(), std::vector<Tensor>{q0})[0];
  CHECK(g.item<double>() == doctest::Approx(1 + std::cos(1.0) + std::cos(2.0) + std::cos(3.0)).epsilon(1e-6));

  const auto message = [&](const EvolveOptions& o) -> std::string {
    try {
      (void)spring.evolve({q0, Tensor::zeros({1})}, o);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(message({.dt = 0.1, .steps = 10, .save_every = 3})
            .find("save_every is 3, which does not divide the 10 steps") != std::string::npos);
  CHECK(message({.dt = 0.1, .steps = 10, .save_every = 0}).find("save_every is 0") != std::string::npos);
  CHECK(message({.dt = 0.1, .steps = 10, .save_every = -2}).find("test_system.cpp") != std::string::npos);

  std::vector<std::int64_t> done;
  const auto note = [&](const Progress& p) { done.push_back(p.done); };
  (void)driven.evolve(rest, {.dt = 1e-3, .steps = 400, .save_every = 100, .progress = note})
      .q.to_vector<double>();
  REQUIRE(!done.empty());
  CHECK(done.back() == 400);
}

TEST_CASE("an ensemble: members move by themselves, each as alone") {
  const Tensor k = Tensor::from({1.0, 4.0, 9.0});
  const SystemOptions one{.batch_axes = 1};
  const System ensemble(
      [&](const Tensor& q, const Tensor& p) {
        return 0.5 * (p * p).sum({1}) + 0.25 * k * (q * q * q * q).sum({1});
      },
      one);
  const Tensor q = Tensor::from({{1.0, 2.0}, {0.5, 1.0}, {0.1, 0.2}}), p = Tensor::zeros({3, 2});
  const EvolveOptions options{.dt = 0.01, .steps = 200};
  const State all = ensemble.evolve({q, p}, options);
  CHECK(ensemble.energy({q, p}).shape() == Shape{3});
  for (std::int64_t b = 0; b < 3; ++b) {
    const System alone([&](const Tensor& x, const Tensor& y) {
      return 0.5 * (y * y).sum() + 0.25 * k[b] * (x * x * x * x).sum();
    });
    const State s = alone.evolve({q[b], p[b]}, options);
    const auto a = all.q[b].to_vector<double>(), c = s.q.to_vector<double>();
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(c[i]).epsilon(1e-13));
  }
  // Two axes of members; named terms; an energy that is a plain number for all.
  const System named({{"kinetic", [](const Tensor&, const Tensor& y) { return 0.5 * (y * y).sum({-1}); }},
                      {"none",
                       [](const Tensor&, const Tensor&) {
                         return Tensor::zeros({2, 3});
                       }}},
                     {.batch_axes = 2});
  const State drift =
      named.evolve({Tensor::zeros({2, 3, 4}), Tensor::ones({2, 3, 4})}, {.dt = 0.5, .steps = 4});
  CHECK(drift.q.sum().item<double>() == doctest::Approx(48.0));
}

TEST_CASE("an ensemble whose members are joined is refused, with the line") {
  const auto said = [](auto h, int batch_axes) -> std::string {
    try {
      const System s(h, SystemOptions{.batch_axes = batch_axes});
      (void)s.evolve({Tensor::ones({6, 2}), Tensor::ones({6, 2})}, {.dt = 0.01, .steps = 3});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  using T = const Tensor&;
  const auto kinetic = [](T p) { return 0.5 * (p * p).sum({1}); };
  const Tensor index = Tensor::from({1, 0, 2, 3, 4, 5}), same = Tensor::from({1, 0});
  const auto allowed = [&](auto v) { CHECK(said([=](T q, T p) { return kinetic(p) + v(q); }, 1) == ""); };
  const auto refused = [&](auto v, const std::string& why) {
    const std::string text = said([=](T q, T p) { return kinetic(p) + v(q); }, 1);
    CAPTURE(text);
    CHECK(text.find("H may join members of the ensemble (batch_axes): " + why) != std::string::npos);
    CHECK(text.find("at test_system.cpp:") != std::string::npos);
  };
  allowed([](T q) { return (q * q.roll(1, 1)).sum({1}); });
  allowed([](T q) { return matmul(q, Tensor::ones({2, 2})).sum({1}); });
  allowed([](T q) { return q.permute({1, 0}).sum({0}); });
  allowed([](T q) { return q.reshape({6, 1, 2}).sum({1, 2}); });
  allowed([=](T q) { return gather(q, same, 1).sum({1}); });
  allowed([](T q) { return q.cumsum(1).sum({1}); });
  allowed([](T q) { return q.pad({{0, 0}, {1, 1}}).sum({1}); });
  allowed([](T q) { return (matmul(q.unsqueeze(1), q.unsqueeze(2))).reshape({6}); });
  allowed([](T) { return Tensor::ones({6}); });
  refused([](T q) { return (q * q.roll(1, 0)).sum({1}); }, "roll along axis 0");
  refused([](T q) { return (q - q.mean(0)).sum({1}); }, "a reduction along axis 0");
  refused([](T q) { return (q * q.flip(0)).sum({1}); }, "slice along axis 0");
  refused([](T q) { return matmul(Tensor::ones({6, 6}), q).sum({1}); }, "matmul along axis 0");
  refused([](T q) { return matmul(q, q.permute({1, 0})).sum({1}); }, "matmul of members with each other");
  refused([=](T q) { return gather(q, index, 0).sum({1}); }, "gather along axis 0");
  refused([](T q) { return q.cumsum(0).sum({1}); }, "cumsum along axis 0");
  refused([](T q) { return q.pad({{1, 0}, {0, 0}}).slice(0, 0, 6).sum({1}); }, "pad along axis 0");
  refused([](T q) { return cat({q.slice(0, 3), q.slice(0, 0, 3)}, 0).sum({1}); }, "slice along axis 0");
  refused([](T q) { return q.permute({1, 0}).reshape({6, 2}).sum({1}); }, "reshape splits or joins axis 1");
  refused(
      [](T q) {
        return q.reshape({2, 3, 2}).permute({1, 0, 2}).reshape({6, 2}).sum({1});
      },
      "reshape splits or joins axis 0");
  const auto energies = [](T q, T p) { return (0.5 * p * p + q * q).sum({1}); };
  CHECK(said(energies, 0).find("System(H, {.batch_axes = 1})") != std::string::npos);
  CHECK(said(energies, 2).find("H must return an energy for each member, [6,2]; it returns float64[6]") !=
        std::string::npos);
  CHECK(said(energies, 3).find("fewer axes than batch_axes = 3") != std::string::npos);
  CHECK(said(energies, -1).find("batch_axes is -1") != std::string::npos);
}

TEST_CASE("gradient: a value that is only seen in other shapes") {
  const Tensor x = Tensor::from({1.0, 2.0, 3.0, 4.0, 5.0, 6.0});
  const auto by = [](const Tensor& loss, const Tensor& y) {
    return gradient(loss, std::vector<Tensor>{y})[0].flatten().to_vector<double>();
  };
  const Tensor y = (x * x).reshape({2, 3});
  const std::vector<double> ones(6, 1.0);
  CHECK(by(y.reshape({3, 2}).sum(), y) == ones);
  CHECK(by(y.flatten().sum(), y) == ones);
  CHECK(by(y.unsqueeze(0).sum(), y) == ones);
  CHECK(by((y.reshape({6}) * x).sum(), y) == x.to_vector<double>());
  const Tensor column = x.reshape({6, 1});
  CHECK(by((column.sum(1) * x).sum(), column) == x.to_vector<double>());
  const Tensor r = x.reshape({2, 3});  // of data itself
  CHECK(by(r.reshape({3, 2}).sum(), r) == ones);
  const Tensor s = x[2], wide = s.expand({3});
  CHECK(by(wide.expand({2, 3}).sum(), wide) == std::vector<double>{2, 2, 2});
  CHECK(by((wide * r).sum(), wide) == std::vector<double>{5, 7, 9});
  const Tensor one = (x.sum() * 2.0).reshape({1});
  CHECK(by((one * x).sum(), one) == std::vector<double>{21});
  CHECK(by((one.reshape({1, 1}) * r).sum(), one) == std::vector<double>{21});
  const Tensor minus = -x;
  CHECK(by((-minus).sum(), minus) == std::vector<double>(6, -1.0));
  CHECK(by((x + minus).sum(), minus) == ones);
  CHECK(by((x - minus).sum(), minus) == std::vector<double>(6, -1.0));
}
