#include "fuzz/evaluators.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include <fmt/format.h>

#include "derive/complex.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tensor.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys::fuzz {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Ulp by which devices may differ in an operation whose operands are equal, as docs/devices.md has it; 0: not at all.
int ulps(const Node* n, bool opencl) {
  switch (n->op) {
    case Op::EXP:
    case Op::EXPM1:
    case Op::LOG:
    case Op::LOG1P:
    case Op::SIN:
    case Op::COS:
    case Op::ASIN:
    case Op::ACOS:
    case Op::SINH:
    case Op::COSH: return 4;
    case Op::TAN:
    case Op::TANH:
    case Op::ATAN: return opencl ? 5 : 4;
    case Op::ATAN2: return opencl ? 6 : 4;
    case Op::ERF:
    case Op::POW: return opencl ? 16 : 4;
    // The evaluator takes float32 in float64 and rounds once, a kernel rounds each product, and r + b of a remainder.
    case Op::POWI:
      if (n->arg(0) > 4 || n->arg(0) < -4) return opencl ? 16 : 4;
      return n->dtype == DType::kFloat32 ? 3 : 0;
    case Op::MOD: return n->dtype == DType::kFloat32 ? 1 : 0;
    default: return 0;
  }
}

// Terms that a device may add in an order of its own.
std::int64_t terms(const Node* n) {
  if (!is_float(n->dtype)) return 0;
  switch (n->op) {
    case Op::REDUCE:
      return static_cast<Reduction>(n->arg(0)) > Reduction::kProd
                 ? 0
                 : n->src(0)->size() / std::max<std::int64_t>(n->size(), 1);
    case Op::CUMSUM: return n->shape()[static_cast<std::size_t>(n->arg(0))];
    case Op::MATMUL: return n->src(0)->shape().back();
    case Op::SCATTER_ADD: return n->src(1)->size() + 1;
    case Op::FFT:
    case Op::RFFT:
    case Op::IRFFT: return 4;
    default: return 0;
  }
}

// Exact for equal operands, and rounds those that are not quite.
bool rounds(Op op) {
  switch (op) {
    case Op::ADD:
    case Op::SUB:
    case Op::MUL:
    case Op::DIV:
    case Op::FMA:
    case Op::SQRT:
    case Op::POWI:
    case Op::MOD:
    case Op::CAST: return true;
    default: return false;
  }
}

double largest(DType d) {
  return d == DType::kFloat32 ? double{std::numeric_limits<float>::max()}
                              : std::numeric_limits<double>::max();
}
double smallest_normal(DType d) {
  return d == DType::kFloat32 ? double{std::numeric_limits<float>::min()}
                              : std::numeric_limits<double>::min();
}
// The distance of float numbers near x.
double ulp(DType d, double x) {
  const double size = std::max(std::fabs(x), smallest_normal(d));
  return std::ldexp(1.0, std::ilogb(size) - (d == DType::kFloat32 ? 23 : 52));
}

// Where the order decides whether there is an overflow on the way (of a product: or an underflow), no bound says what comes
// out. Sums, products and transforms of numbers that are not finite are such, too, but for plain sums.
bool order_decides(const Node* n, const std::vector<const Value<double>*>& sources) {
  const bool product = n->op == Op::REDUCE && static_cast<Reduction>(n->arg(0)) == Reduction::kProd;
  const bool transform = is_fft(n->op);
  long double sum = 0, up = 1, down = 1;
  for (const Value<double>* v : sources) {
    long double size = 0;
    for (const double x : v->real) {
      if (!std::isfinite(x)) {
        if (product || transform) return true;
        continue;
      }
      const long double a = std::fabs(static_cast<long double>(x));
      sum += a;
      size = std::max(size, a);
      if (a > 1) up *= a;
      if (a < 1) down *= a;
    }
    if (n->op == Op::MATMUL) up *= std::max<long double>(size * static_cast<long double>(terms(n)), 1);
  }
  const long double most = largest(n->dtype) / 4;
  if (product) return up > most || down < smallest_normal(n->dtype);
  if (n->op == Op::MATMUL) return up > most;
  return sum * static_cast<long double>(transform ? n->size() + 1 : 1) > most;
}

// One way in which the operations of a graph may round.
class Sample {
 public:
  // `way`: 0 and 1 round everything up and down as far as may be, others as it comes.
  Sample(std::mt19937_64& rng, int way, bool opencl) : rng_(rng), way_(way), opencl_(opencl) {}

  Values run(std::span<Node* const> roots, const Leaf<double>& leaf) {
    NodeMap<Value<double>> values;
    NodeMap<std::shared_ptr<Values>> loops;
    for (Node* n : toposort(roots, [&](const Node* x) {
           std::optional<Value<double>> v = leaf(x);
           return v && values.insert(x, std::move(*v));
         })) {
      if (values.contains(n) || n->op == Op::LAMBDA || n->op == Op::SCAN) continue;
      if (n->op == Op::GET) {
        std::shared_ptr<Values>& outputs = loops[n->src(0)];
        if (!outputs) outputs = std::make_shared<Values>(loop(n->src(0), values));
        values.insert(n, (*outputs)[static_cast<std::size_t>(n->arg(0))]);
        continue;
      }
      values.insert(n, one(n, values));
    }
    Values out;
    for (Node* r : roots) out.push_back(values.at(r));
    return out;
  }

 private:
  // A whole number of ulp from -by to by.
  double off_by(int by) {
    if (way_ < 2) return way_ == 0 ? by : -by;
    return static_cast<double>(rng_() % static_cast<std::uint64_t>(2 * by + 1)) - by;
  }

  void shake(Value<double>& v, int by) {
    if (!is_float(v.dtype) || by == 0) return;
    for (double& x : v.real)
      if (std::isfinite(x) && x != 0) x = Number<double>::round_to(v.dtype, x + off_by(by) * ulp(v.dtype, x));
  }

  Value<double> one(Node* n, const NodeMap<Value<double>>& values) {
    const std::int64_t added = terms(n);
    NodeMap<Value<double>> shaken;
    std::vector<const Value<double>*> sources;
    for (Node* s : n->src()) {
      Value<double> v = values.at(s);
      shake(v, static_cast<int>(std::min<std::int64_t>(added, 64)));
      shaken.insert(s, std::move(v));
    }
    for (Node* s : n->src()) sources.push_back(shaken.find(s));
    Value<double> v = evaluate<double>(UOp::share(n), [&](const Node* x) -> std::optional<Value<double>> {
      if (x == n) return std::nullopt;
      return shaken.at(x);
    });
    bool off = ulps(n, opencl_) > 0 || added > 1;
    for (Node* s : n->src()) off |= off_.contains(s);
    if (off) off_.insert(n, 1);
    shake(v, std::max(ulps(n, opencl_), off && rounds(n->op) ? 1 : 0));
    if (added > 0 && order_decides(n, sources))
      for (double& x : v.real) x = way_ % 2 ? std::numeric_limits<double>::quiet_NaN() : 0;
    return v;
  }

  static Value<double> row(const Value<double>& x, std::int64_t i) {
    Value<double> r{x.dtype, Dims(x.shape.begin() + 1, x.shape.end()), {}, {}};
    std::int64_t size = 1;
    for (const std::int64_t d : r.shape) size *= d;
    if (is_float(x.dtype))
      r.real.assign(x.real.begin() + i * size, x.real.begin() + (i + 1) * size);
    else
      r.integer.assign(x.integer.begin() + i * size, x.integer.begin() + (i + 1) * size);
    return r;
  }

  Values loop(const Node* scan, const NodeMap<Value<double>>& values) {
    const ScanView s(scan);
    Values params{Value<double>{DType::kInt64, {}, {}, {0}}}, outs(s.n_out);
    for (std::size_t i = 2; i < scan->n_src; ++i) params.push_back(values.at(scan->src(i)));
    const Values given = params;
    const std::int64_t steps = values.at(s.steps()).integer[0];
    for (std::size_t j = 0; j < s.n_out; ++j) {
      const Node* o = s.body()->src(s.n_carry + j);
      outs[j].dtype = o->dtype;
      outs[j].shape = shape_of(o);
      outs[j].shape.insert(outs[j].shape.begin(), steps);
    }
    for (std::int64_t step = 0; step < steps; ++step) {
      params[0].integer = {step};
      for (std::size_t x = 1 + s.n_carry; x < 1 + s.n_carry + s.n_xs; ++x) params[x] = row(given[x], step);
      const Values next = run(s.body()->src(), [&](const Node* n) -> std::optional<Value<double>> {
        if (n->op != Op::PARAM) return std::nullopt;
        return params[static_cast<std::size_t>(n->arg(0))];
      });
      std::copy_n(next.begin(), s.n_carry, params.begin() + 1);
      for (std::size_t j = 0; j < s.n_out; ++j) {
        const Value<double>& o = next[s.n_carry + j];
        outs[j].real.insert(outs[j].real.end(), o.real.begin(), o.real.end());
        outs[j].integer.insert(outs[j].integer.end(), o.integer.begin(), o.integer.end());
      }
      if (s.has_until && next.back().integer[0] != 0) break;
    }
    Values results(params.begin() + 1, params.begin() + 1 + static_cast<std::ptrdiff_t>(s.n_carry));
    for (Value<double>& o : outs) {
      std::int64_t size = 1;
      for (const std::int64_t d : o.shape) size *= d;
      (is_float(o.dtype) ? o.real.resize(static_cast<std::size_t>(size))
                         : o.integer.resize(static_cast<std::size_t>(size)));
      results.push_back(std::move(o));
    }
    return results;
  }

  std::mt19937_64& rng_;
  int way_;
  bool opencl_;
  NodeMap<char> off_;  // nodes that depend on what rounds
};

Value<double> value_of(const Node* n) {
  // A complex value is read as what AS_REAL makes of it.
  const bool pairs = is_complex(n->dtype);
  Value<double> v{pairs ? real_dtype(n->dtype) : n->dtype, shape_of(n), {}, {}};
  if (pairs) v.shape.push_back(2);
  const HostRead read(*storage(n));
  const auto size = static_cast<std::size_t>(n->size() * (pairs ? 2 : 1));
  for (std::size_t i = 0; i < size; ++i) switch (v.dtype) {
      case DType::kFloat64: v.real.push_back(read.as<double>()[i]); break;
      case DType::kFloat32: v.real.push_back(double{read.as<float>()[i]}); break;
      case DType::kInt64: v.integer.push_back(read.as<std::int64_t>()[i]); break;
      case DType::kInt32: v.integer.push_back(read.as<std::int32_t>()[i]); break;
      default: v.integer.push_back(read.as<unsigned char>()[i]);
    }
  return v;
}

}  // namespace

RealGraph::RealGraph(const std::vector<UOp>& roots) {
  const std::vector<UOp> closed = substitute(roots, [&](Node* n) -> UOp {
    if (n->op != Op::BUFFER) return {};
    data_.push_back(value_of(n));
    return param(static_cast<std::int64_t>(data_.size()) - 1, n->dtype, n->shape());
  });
  program_ = lower_complex_program(lambda_of(closed, data_.size()));
}

std::optional<Value<double>> RealGraph::leaf(const Node* n) const {
  if (n->op != Op::PARAM) return std::nullopt;
  return data_[static_cast<std::size_t>(n->arg(0))];
}

Values reference(const std::vector<UOp>& roots) {
  const RealGraph graph(roots);
  return evaluate<double>(graph.outputs(), [&](const Node* n) { return graph.leaf(n); });
}

std::vector<UOp> fresh(const std::vector<UOp>& roots) {
  return substitute(roots, [](Node* n) -> UOp {
    return n->op == Op::BUFFER ? buffer(n->dtype, n->shape(), StorageRef::share(storage(n))) : UOp();
  });
}

Values realized(const std::vector<UOp>& roots, const Evaluator& by, Op planted) {
  const env::ScopedOverride device("TINYPHYS_DEVICE", by.device);
  const env::ScopedOverride optimize("TINYPHYS_OPT", by.optimize ? "1" : "0");
  std::vector<UOp> own = fresh(roots);
  if (planted != Op::SINK)
    own = rebuild(own, {.after = [&](Node* n, const UOp& now) -> UOp {
                    if (n->op != planted || is_complex(now->dtype)) return {};
                    return make(now->dtype == DType::kBool ? Op::NOT : Op::NEG, {now});
                  }});
  std::vector<Tensor> tensors;
  for (UOp& r : own) tensors.push_back(tensor(r));
  realize(tensors);
  Values out;
  for (const UOp& r : own) out.push_back(value_of(r.get()));
  return out;
}

UOp leaf_of(const Value<double>& value, DType dtype) {
  Dims shape = value.shape;
  if (is_complex(dtype)) shape = Dims(shape.begin(), shape.end() - 1);
  StorageRef data = StorageRef::allocate(value.size() * item_size(value.dtype));
  const HostWrite write(*data);
  for (std::size_t i = 0; i < value.size(); ++i) switch (value.dtype) {
      case DType::kFloat64: write.as<double>()[i] = value.real[i]; break;
      case DType::kFloat32: write.as<float>()[i] = static_cast<float>(value.real[i]); break;
      case DType::kInt64: write.as<std::int64_t>()[i] = value.integer[i]; break;
      case DType::kInt32: write.as<std::int32_t>()[i] = static_cast<std::int32_t>(value.integer[i]); break;
      default: write.as<unsigned char>()[i] = value.integer[i] != 0;
    }
  return buffer(dtype, shape, std::move(data));
}

bool same_element(const Value<double>& a, const Value<double>& b, std::size_t i) {
  if (!is_float(a.dtype)) return a.integer[i] == b.integer[i];
  return bits(a.real[i]) == bits(b.real[i]) || (std::isnan(a.real[i]) && std::isnan(b.real[i]));
}

std::string element_text(const Value<double>& v, std::size_t i) {
  if (v.dtype == DType::kBool) return v.integer[i] ? "true" : "false";
  if (!is_float(v.dtype)) return fmt::format("{}", v.integer[i]);
  if (v.dtype == DType::kFloat32) return fmt::format("{}", static_cast<float>(v.real[i]));
  return fmt::format("{}", v.real[i]);
}

Allowed::Allowed(const std::vector<UOp>& roots, bool opencl)
    : graph_(roots), opencl_(opencl), reference_(fuzz::reference(roots)) {
  for (const Value<double>& v : reference_) deviation_.emplace_back(v.size(), 0.0);
  sample(6);
}

void Allowed::sample(int how_many) {
  for (; how_many > 0; --how_many) {
    const Values v = Sample(rng_, samples_++, opencl_).run(graph_.outputs(), [&](const Node* n) {
      return graph_.leaf(n);
    });
    for (std::size_t r = 0; r < v.size(); ++r)
      for (std::size_t i = 0; i < v[r].size(); ++i) {
        if (same_element(v[r], reference_[r], i)) continue;
        const double off = is_float(v[r].dtype) ? std::fabs(v[r].real[i] - reference_[r].real[i]) : kInf;
        deviation_[r][i] = std::isnan(off) ? kInf : std::max(deviation_[r][i], off);
      }
  }
}

bool Allowed::contains(const Value<double>& got, std::size_t root, std::size_t i) const {
  const Value<double>& want = reference_[root];
  if (same_element(got, want, i) || deviation_[root][i] == kInf) return true;
  return is_float(got.dtype) && std::fabs(got.real[i] - want.real[i]) <= 4 * deviation_[root][i];
}

bool Allowed::contains(const Values& got) {
  const auto all = [&] {
    for (std::size_t r = 0; r < got.size(); ++r) {
      if (got[r].dtype != reference_[r].dtype || got[r].shape != reference_[r].shape) return false;
      for (std::size_t i = 0; i < got[r].size(); ++i)
        if (!contains(got[r], r, i)) return false;
    }
    return true;
  };
  if (all()) return true;
  sample(64);
  return all();
}

}  // namespace tinyphys::fuzz
