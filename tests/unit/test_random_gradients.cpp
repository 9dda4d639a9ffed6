// Derivatives of random compositions of all differentiable functions of the front end, in quad precision:
//   central differences   (f(x + h v) - f(x - h v)) / 2h = f'(x) v, h = 1e-12, so that kinks are met by exact ties alone
//   duality               <jvp(v), w> = <v, vjp(w)>, also in double
// TINYPHYS_FUZZ_SEED gives other graphs. Each function and each op with a derivative must be drawn.
#include <set>

#include "../random_graph.hpp"
#include "derive/complex.hpp"
#include "derive/gradient.hpp"
#include "derive/jvp.hpp"
#include "derive/scan_tape.hpp"
#include "support/quad.hpp"
#include "test_tensor_helpers.hpp"
#include "tinyphys/scan.hpp"
#include "uop/build.hpp"

namespace tinyphys::testing {
namespace {

template <class T> using Values = NodeMap<Value<T>>;

template <class T> std::vector<std::vector<T>> run(std::vector<UOp> roots, const Values<T>& values) {
  roots = lower_vjps(lower_complex(roots));
  std::vector<Node*> nodes;
  for (const UOp& r : roots) nodes.push_back(r.get());
  const Leaf<T> leaf = [&](const Node* n) -> std::optional<Value<T>> {
    const auto* v = values.find(n);
    return v ? std::optional(*v) : std::nullopt;
  };
  std::vector<std::vector<T>> out;
  for (auto& v : evaluate<T>(std::span<Node* const>(nodes), leaf)) out.push_back(std::move(v.real));
  return out;
}
template <class T> T inner(const std::vector<std::vector<T>>& a, const std::vector<std::vector<T>>& b) {
  T s = 0;
  for (std::size_t k = 0; k < a.size(); ++k)
    for (std::size_t i = 0; i < a[k].size(); ++i) s = s + a[k][i] * b[k][i];
  return s;
}

// What was drawn, with the values that it has.
class Pool {
 public:
  explicit Pool(std::uint64_t seed) : random(seed, true) {}

  RandomGraph random;
  std::vector<UOp> inputs;
  std::vector<Tensor> drawn;

  std::int64_t below(std::int64_t n) { return random.below(n); }
  double number(double low, double high) {
    return low + (high - low) * static_cast<double>(below(1 << 20)) / (1 << 20);
  }
  Doubles numbers(std::int64_t n) {
    Doubles v(static_cast<std::size_t>(n));
    for (double& x : v) x = number(-2, 2);
    return v;
  }

  Tensor input(const Shape& shape) {
    std::int64_t n = 1;
    for (std::int64_t d : shape) n *= d;
    inputs.push_back(symbol(DType::kFloat64, shape));
    Value<double> v;
    v.shape.assign(shape.begin(), shape.end());
    v.real = numbers(n);
    at_.insert(inputs.back().get(), std::move(v));
    drawn.push_back(tensor(inputs.back()));
    return drawn.back();
  }
  const Values<double>& at() const { return at_; }
  Doubles values(const Tensor& t) { return run<double>({uop(t)}, at_)[0]; }
  bool within(const Tensor& t, double low, double high) {
    for (double x : values(t))
      if (!(x >= low && x <= high)) return false;
    return true;
  }
  bool away_from_zero(const Tensor& t) { return within(abs(t), 0.2, 100); }

  Tensor any() { return random.pick(drawn); }
  Tensor of_rank(std::int64_t least) {
    for (int k = 0; k < 20; ++k)
      if (const Tensor t = any(); t.ndim() >= least) return t;
    return fit(Shape(static_cast<std::size_t>(least), 2));
  }
  // Something of this shape: by luck what was drawn in it, else elements of something.
  Tensor fit(const Shape& shape) {
    std::vector<Tensor> same;
    for (const Tensor& t : drawn)
      if (t.shape() == shape) same.push_back(t);
    if (!same.empty() && !random.one_in(4)) return random.pick(same);
    std::int64_t n = 1;
    for (std::int64_t d : shape) n *= d;
    const Tensor from = any().flatten();
    Ints index(static_cast<std::size_t>(n));
    for (auto& i : index) i = below(from.size());
    return gather(from, Tensor::from(index)).reshape(shape);
  }
  // What broadcasts with t.
  Tensor partner(const Tensor& t) {
    Shape s = t.shape();
    if (random.one_in(3))
      for (auto& d : s)
        if (random.one_in(2)) d = 1;
    if (random.one_in(4) && !s.empty()) s.erase(s.begin());
    return fit(s);
  }
  std::int64_t axis(const Tensor& t) { return below(t.ndim()) - (random.one_in(3) ? t.ndim() : 0); }
  Axes axes(const Tensor& t) {
    if (t.ndim() == 0 || random.one_in(3)) return {};
    return Axes(axis(t));
  }

 private:
  Values<double> at_;
};

struct Draw {
  std::string name;
  std::function<Tensor(Pool&)> make;
};

// Functions at arguments inside their domains.
std::vector<Draw> draws() {
  std::vector<Draw> d;
  const auto add = [&](std::string name, std::function<Tensor(Pool&)> f) {
    d.push_back({std::move(name), std::move(f)});
  };
  // Where x is not fit, `other` of it is.
  const auto unary = [&](const char* name, auto f, double low, double high, auto other) {
    add(name, [=](Pool& p) {
      const Tensor x = p.any();
      return f(p.within(x, low, high) ? x : Tensor(other(x)));
    });
  };
  constexpr double kAll = 1e300;
  const auto same = [](const Tensor& x) { return x; };
  const auto bounded = [](const Tensor& x) { return 0.9 * sin(x); };
  const auto positive = [](const Tensor& x) { return x * x + 0.3; };
  unary(
      "sin", [](const Tensor& x) { return sin(x); }, -kAll, kAll, same);
  unary(
      "cos", [](const Tensor& x) { return cos(x); }, -kAll, kAll, same);
  unary(
      "tan", [](const Tensor& x) { return tan(x); }, -1.3, 1.3, bounded);
  unary(
      "asin", [](const Tensor& x) { return asin(x); }, -0.9, 0.9, bounded);
  unary(
      "acos", [](const Tensor& x) { return acos(x); }, -0.9, 0.9, bounded);
  unary(
      "atan", [](const Tensor& x) { return atan(x); }, -kAll, kAll, same);
  unary(
      "sinh", [](const Tensor& x) { return sinh(x); }, -2, 2, bounded);
  unary(
      "cosh", [](const Tensor& x) { return cosh(x); }, -2, 2, bounded);
  unary(
      "tanh", [](const Tensor& x) { return tanh(x); }, -kAll, kAll, same);
  unary(
      "erf", [](const Tensor& x) { return erf(x); }, -kAll, kAll, same);
  unary(
      "exp", [](const Tensor& x) { return exp(x); }, -2, 2, bounded);
  unary(
      "expm1", [](const Tensor& x) { return expm1(x); }, -2, 2, bounded);
  unary(
      "log", [](const Tensor& x) { return log(x); }, 0.2, kAll, positive);
  unary(
      "log1p", [](const Tensor& x) { return log1p(x); }, -0.8, kAll, positive);
  unary(
      "sqrt", [](const Tensor& x) { return sqrt(x); }, 0.2, kAll, positive);
  unary(
      "rsqrt", [](const Tensor& x) { return rsqrt(x); }, 0.2, kAll, positive);
  unary(
      "square", [](const Tensor& x) { return square(x); }, -kAll, kAll, same);
  unary(
      "abs", [](const Tensor& x) { return abs(x); }, -kAll, kAll, same);
  unary(
      "-x", [](const Tensor& x) { return -x; }, -kAll, kAll, same);
  unary(
      "sign", [](const Tensor& x) { return x * sign(x); }, -kAll, kAll, same);
  unary(
      "floor", [](const Tensor& x) { return x - floor(x); }, -kAll, kAll, same);
  unary(
      "ceil", [](const Tensor& x) { return x * ceil(x); }, -kAll, kAll, same);
  unary(
      "astype", [](const Tensor& x) { return x * (x > 0.5).astype(DType::kFloat64); }, -kAll, kAll, same);
  unary(
      "pow by a number", [](const Tensor& x) { return pow(x, 3) + pow(x, 2); }, -kAll, kAll, same);
  unary(
      "pow by a negative number", [](const Tensor& x) { return pow(x, -2) + pow(x, 1.5); }, 0.3, kAll,
      positive);

  const auto binary = [&](const char* name, auto f) {
    add(name, [=](Pool& p) {
      const Tensor x = p.any(), y = p.partner(x);
      return p.random.one_in(2) ? f(x, y) : f(y, x);
    });
  };
  binary("+", [](const Tensor& x, const Tensor& y) { return x + y; });
  binary("-", [](const Tensor& x, const Tensor& y) { return x - y; });
  binary("*", [](const Tensor& x, const Tensor& y) { return x * y; });
  binary("maximum", [](const Tensor& x, const Tensor& y) { return maximum(x, y); });
  binary("minimum", [](const Tensor& x, const Tensor& y) { return minimum(x, y); });
  binary("clamp", [](const Tensor& x, const Tensor& y) { return minimum(maximum(x, -0.7), y + 0.11); });
  binary("where", [](const Tensor& x, const Tensor& y) { return where(x < y, x * x, y); });
  binary("fma", [](const Tensor& x, const Tensor& y) { return fma(x, y, x); });
  const auto divided = [&](const char* name, auto f) {
    add(name, [=](Pool& p) {
      const Tensor x = p.any(), y = p.partner(x);
      return f(x, p.away_from_zero(y) ? y : Tensor(y * y + 0.6));
    });
  };
  divided("/", [](const Tensor& x, const Tensor& y) { return x / y; });
  // Off the multiples, where it jumps.
  divided("%", [](const Tensor& x, const Tensor& y) { return (x + 0.0123) % y; });
  divided("atan2", [](const Tensor& x, const Tensor& y) { return atan2(x, y); });
  add("pow", [=](Pool& p) {
    const Tensor x = p.any(), y = p.partner(x);
    return pow(p.within(x, 0.3, 5) ? x : Tensor(positive(sin(x))), y);
  });

  // By way of complex numbers, and back to a real one.
  const auto one_part = [](Pool& p, const Tensor& z) {
    return p.random.one_in(2) ? real(z) : p.random.one_in(2) ? imag(z) : abs(z + complex(0.1, 7.0));
  };
  add("complex arithmetic", [=](Pool& p) {
    const Tensor x = p.any(), y = p.partner(x), z = complex(x, y);
    return one_part(p, conj(z) * z * std::complex(0.0, 0.5) - z * x + y);
  });
  add("complex quotients", [=](Pool& p) {
    const Tensor x = p.any(), y = p.partner(x), z = complex(x, y);
    return one_part(p, (z + 1.0) / (complex(y, x) * conj(complex(y, x)) + std::complex(0.6, 0.2)));
  });
  add("complex functions", [=](Pool& p) {
    static const std::vector<Tensor (*)(const Arg&)> functions{exp, log,  sqrt, sin,  cos,
                                                               tan, sinh, cosh, tanh, angle};
    const Tensor x = p.any(), y = p.partner(x), z = complex(0.9 * sin(x), 0.8 + 0.5 * sin(y));
    return one_part(p, p.random.pick(functions)(z));
  });
  add("complex powers", [=](Pool& p) {
    const Tensor x = p.any(), y = p.partner(x), z = complex(0.9 * sin(x), 0.8 + 0.5 * sin(y));
    return one_part(p, p.random.one_in(2) ? pow(z, conj(z)) : pow(z, -3));
  });
  add("complex products", [=](Pool& p) {
    const Tensor z = complex(p.fit({2, 3}), p.fit({2, 3}));
    return one_part(p, p.random.one_in(2) ? matmul(z, z.transpose()) : (0.5 * z).prod(1));
  });

  add("reshape", [](Pool& p) { return p.any().reshape({-1, 1}); });
  add("flatten", [](Pool& p) { return p.any().flatten(); });
  add("permute", [](Pool& p) { return p.fit({2, 1, 3}).permute({2, 0, 1}); });
  add("transpose", [](Pool& p) { return p.any().transpose(); });
  add("expand", [](Pool& p) {
    const Tensor x = p.fit({2, 1});
    return x.expand({3, 2, 2});
  });
  add("flip", [](Pool& p) {
    const Tensor x = p.any();
    return x.flip(p.axes(x));
  });
  add("roll", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    return x.roll(p.below(7) - 3, p.axis(x));
  });
  add("slice", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t axis = p.axis(x);
    return p.random.one_in(2) ? x.slice(axis, 0, kEnd, 2) : x.slice(axis, kEnd - 1, kEnd, -1);
  });
  add("select", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t axis = p.axis(x);
    return x.select(axis, p.below(x.dim(axis)));
  });
  add("slice_set", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t axis = p.axis(x);
    Shape part = x.shape();
    const auto a = static_cast<std::size_t>(axis < 0 ? axis + x.ndim() : axis);
    part[a] = (part[a] + 1) / 2;
    return x.slice_set(axis, 0, kEnd, p.fit(part), 2);
  });
  add("pad", [](Pool& p) {
    const Tensor x = p.any();
    Tensor::Padding widths;
    for (std::int64_t i = 0; i < x.ndim(); ++i) widths.emplace_back(p.below(2), p.below(2));
    return p.random.one_in(2) ? x.pad(widths) : x.pad(widths, 0.4);
  });
  add("split", [](Pool& p) {
    const auto parts = p.fit({4, 2}).split(2);
    return parts[0] * parts[1];
  });
  add("split_sizes", [](Pool& p) {
    const auto parts = p.fit({2, 4}).split_sizes({1, 3}, 1);
    return parts[0] - parts[1];
  });
  add("squeeze", [](Pool& p) { return p.fit({1, 3, 1}).squeeze(); });
  add("unsqueeze", [](Pool& p) { return p.any().unsqueeze(0); });
  add("cat", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    return cat({x, p.fit(x.shape()), x}, p.axis(x));
  });
  add("stack", [](Pool& p) {
    const Tensor x = p.any();
    return stack({p.fit(x.shape()), x}, p.below(x.ndim() + 1));
  });

  const auto reduction = [&](const char* name, auto f) {
    add(name, [=](Pool& p) {
      const Tensor x = p.any();
      return f(x, p.axes(x), p.random.one_in(2));
    });
  };
  reduction("sum", [](const Tensor& x, const Axes& a, bool k) { return x.sum(a, k); });
  reduction("mean", [](const Tensor& x, const Axes& a, bool k) { return x.mean(a, k); });
  reduction("prod", [](const Tensor& x, const Axes& a, bool k) { return x.prod(a, k); });
  reduction("max", [](const Tensor& x, const Axes& a, bool k) { return x.max(a, k); });
  reduction("min", [](const Tensor& x, const Axes& a, bool k) { return x.min(a, k); });
  // No element is 0, so that no norm is.
  reduction("norm", [](const Tensor& x, const Axes& a, bool k) { return (x * x + 0.2).norm(a, k); });
  add("cumsum", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    return x.cumsum(p.axis(x));
  });

  add("matmul", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t k = x.dim(-1);
    return p.random.one_in(2) ? matmul(x, p.fit({k, 2})) : matmul(x, p.fit({k}));
  });
  add("matmul of batches", [](Pool& p) { return matmul(p.fit({2, 1, 2, 3}), p.fit({2, 3, 2})); });
  add("dot", [](Pool& p) {
    const Tensor x = p.any().flatten();
    return dot(x, p.fit(x.shape()));
  });
  // Of pairs (re, im); scaled, so that values stay in range.
  add("fft", [](Pool& p) {
    const std::int64_t sign = p.random.one_in(2) ? kForwardFft : kInverseFft;
    const Dims axes = p.random.one_in(2) ? Dims{0, 1} : Dims{p.below(2)};
    return 0.2 * tensor(fft(uop(p.fit({3, 4, 2})), sign, axes));
  });
  add("rfft", [](Pool& p) {
    const std::int64_t n = 4 + p.below(2);
    return 0.2 * tensor(rfft(uop(p.fit({3, n})), p.random.one_in(2) ? Dims{0, 1} : Dims{1, 0}));
  });
  add("irfft", [](Pool& p) {
    const std::int64_t n = 4 + p.below(2);
    return 0.2 * tensor(irfft(uop(p.fit({n / 2 + 1, 3, 2})), n, Dims{1, 0}));
  });
  add("gather", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t axis = p.axis(x), n = x.dim(axis);
    return gather(x, Tensor::from({{p.below(n), -1 - p.below(n)}, {p.below(n), p.below(n)}}), axis);
  });
  add("scatter_add", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t axis = p.axis(x), n = x.dim(axis);
    const Tensor index = Tensor::from({p.below(n), p.below(n), -1 - p.below(n)});
    return scatter_add(x, index, p.fit(gather(x, index, axis).shape()), axis);
  });
  add("set", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t n = x.dim(0), i = p.below(n);
    const Tensor value = p.fit(x.select(0, 0).shape());
    return p.random.one_in(2) ? set(x, i, value) : set(x, Tensor::from({i, p.below(n)}), value);
  });
  add("x[i] +=", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const std::int64_t i = p.below(x.dim(0));
    return set(x, i, x[i] + p.fit(x.select(0, 0).shape()));
  });

  add("scan", [](Pool& p) {
    const Tensor x = p.any(), y = p.fit(x.shape());
    const auto [u, v] = scan(
        [&](const Tensor& a, const Tensor& b) {
          return std::tuple{a + 0.1 * sin(b), b - 0.1 * a * y};
        },
        std::tuple{x, y}, 3);
    return u * v;
  });
  add("scan over rows, with outputs", [](Pool& p) {
    const Tensor x = p.of_rank(1);
    const auto [last, rows] = scan(
        [](Index i, const Tensor& a, const Tensor& row) {
          const Tensor next = 0.5 * a + row * cos(a) + 0.1 * i.astype(DType::kFloat64);
          return std::pair{next, next * row};
        },
        p.fit(x.select(0, 0).shape()), x.dim(0), {.xs = x});
    return rows + last;
  });
  return d;
}

// Ops that have no derivative, or that no draw can record.
bool has_gradient_rule(Op op) {
  switch (traits(op).cls) {
    case OpClass::kLeaf:
    case OpClass::kCompare:
    case OpClass::kControl:
    case OpClass::kKernel: return false;
    default: break;
  }
  switch (op) {
    case Op::NOT:
    case Op::AND:
    case Op::OR:
    case Op::PHILOX:  // of integers
    case Op::COPY:    // see test_devices.cpp
    case Op::SIGN:
    case Op::FLOOR:
    case Op::CEIL:      // zero
    case Op::SCAN_VJP:  // made of SCAN
    case Op::EVOLVE:    // a scan to the evaluator only after it is lowered; see test_system.cpp
    case Op::EVOLVE_VJP:
    case Op::PROPAGATE:  // made by passes
    case Op::PROPAGATE_VJP:
    case Op::CHECK: return false;
    default: return true;
  }
}

}  // namespace

TEST_CASE("derivatives of random graphs") {
  constexpr std::uint64_t kSeed = 20'240'611;
  constexpr int kGraphs = 150, kDraws = 12, kElements = 60;
  const std::uint64_t seed = seed_from_environment(kSeed);
  const std::vector<Draw> all = draws();
  std::set<std::string> drawn;
  std::set<Op> ops;
  for (int graph = 0; graph < kGraphs; ++graph) {
    Pool p(seed + static_cast<std::uint64_t>(graph));
    for (const Shape& s : std::vector<Shape>{{3}, {2, 3}, {}, {2, 1, 2}}) p.input(s);
    std::string what;
    std::vector<UOp> outputs;
    // Each draw in turn begins a graph, so that all are drawn whatever the seed.
    for (int k = 0; k < kDraws; ++k) {
      const std::size_t n = all.size();
      const Draw& draw = all[k == 0 ? static_cast<std::size_t>(graph) % n
                                    : static_cast<std::size_t>(p.below(std::int64_t(n)))];
      const Tensor y = draw.make(p);
      if (y.size() == 0 || y.size() > kElements || !p.within(y, -20, 20)) continue;
      what += draw.name + "; ";
      drawn.insert(draw.name);
      p.drawn.push_back(y);
      outputs.push_back(uop(y));
    }
    if (outputs.empty()) continue;
    INFO("TINYPHYS_FUZZ_SEED=" << seed << ", graph " << graph << ": " << what);
    std::vector<Node*> roots;
    for (const UOp& y : outputs) roots.push_back(y.get());
    for (Node* n : toposort(roots)) {
      ops.insert(n->op);
      if (n->op == Op::LAMBDA)
        for (Node* inner : toposort(n->src())) ops.insert(inner->op);
    }

    // x, v and w as leaves of their own.
    Values<Quad> at, ahead, behind;
    Values<double> at_double = p.at();
    std::vector<UOp> v, w;
    const Quad h = 1e-12;
    const auto leaf = [&](const UOp& like) {
      const UOp s = symbol(DType::kFloat64, like->shape());
      Value<double> d;
      d.shape.assign(like->shape().begin(), like->shape().end());
      d.real = p.numbers(like->size());
      Value<Quad> q;
      q.shape = d.shape;
      q.real.assign(d.real.begin(), d.real.end());
      at.insert(s.get(), q);
      at_double.insert(s.get(), d);
      return s;
    };
    for (const UOp& x : p.inputs) {
      v.push_back(leaf(x));
      Value<Quad> here, plus, minus;
      here.shape.assign(x->shape().begin(), x->shape().end());
      const Doubles& values = p.at().at(x.get()).real;
      here.real.assign(values.begin(), values.end());
      plus = minus = here;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const Quad step = h * at.at(v.back().get()).real[i];
        plus.real[i] = here.real[i] + step;
        minus.real[i] = here.real[i] - step;
      }
      at.insert(x.get(), here);
      ahead.insert(x.get(), plus);
      behind.insert(x.get(), minus);
    }
    for (const UOp& y : outputs) w.push_back(leaf(y));

    std::vector<UOp> tangents = jvp(outputs, p.inputs, v), gradients = vjp(outputs, w, p.inputs);
    for (std::size_t i = 0; i < tangents.size(); ++i)
      if (!tangents[i]) tangents[i] = full_like(outputs[i], 0.0);
    for (std::size_t i = 0; i < gradients.size(); ++i)
      if (!gradients[i]) gradients[i] = full_like(p.inputs[i], 0.0);

    const auto forward = run<Quad>(tangents, at), backward = run<Quad>(gradients, at);
    const auto up = run<Quad>(outputs, ahead), down = run<Quad>(outputs, behind);
    const auto values_of = [&](const std::vector<UOp>& leaves) { return run<Quad>(leaves, at); };
    const auto weights = values_of(w), direction = values_of(v);
    double largest = 1;
    for (const auto& t : forward)
      for (Quad x : t) largest = std::max(largest, std::fabs(double(x)));
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      CAPTURE(k);
      double worst = 0;
      for (std::size_t i = 0; i < up[k].size(); ++i) {
        const double slope = double((up[k][i] - down[k][i]) / (Quad(2.0) * h));
        worst = std::max(worst, std::fabs(slope - double(forward[k][i])));
      }
      // Constants of the rules are doubles.
      CHECK(worst <= 1e-13 * largest);
    }
    const double one = double(inner(forward, weights)), other = double(inner(backward, direction));
    double size = 0;  // of the terms that may cancel
    for (std::size_t k = 0; k < forward.size(); ++k)
      for (std::size_t i = 0; i < forward[k].size(); ++i)
        size += std::fabs(double(forward[k][i] * weights[k][i]));
    CHECK(std::fabs(one - other) <= 1e-15 * size);
    const double one_double = inner(run<double>(tangents, at_double), run<double>(w, at_double)),
                 other_double = inner(run<double>(gradients, at_double), run<double>(v, at_double));
    CHECK(std::fabs(one_double - other_double) <= 1e-12 * size);
  }
  for (const Draw& d : all) {
    CAPTURE(d.name);
    CHECK(drawn.contains(d.name));
  }
  // A new op needs a draw, or a line in has_gradient_rule.
  for (int i = 0; i < kOpCount; ++i) {
    const Op op = static_cast<Op>(i);
    CAPTURE(name(op));
    if (has_gradient_rule(op)) CHECK(ops.contains(op));
  }
}

}  // namespace tinyphys::testing
