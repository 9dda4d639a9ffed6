// Random graphs of complex ops: what they are lowered to against std::complex, evaluated node by node in double and in long
// double; where the two disagree, the graph magnifies errors by so much.
#include <complex>
#include <set>

#include "../random_graph.hpp"
#include "support/env.hpp"
#include "test_tensor_helpers.hpp"
#include "uop/build.hpp"

namespace tinyphys::testing {
namespace {

template <class T> class Reference {
 public:
  using C = std::complex<T>;
  using Cs = std::vector<C>;
  bool all_finite = true;  // else results are those of formulas, docs/complex.md

  Cs run(const UOp& root) {
    for (Node* n : toposort(root)) {
      values_.insert(n, of(n));
      for (const C& v : values_.at(n)) all_finite = all_finite && std::isfinite(std::abs(v));
    }
    return values_.at(root.get());
  }

 private:
  static Cs leaf(const Node* n) {
    const HostRead read(*storage(n));
    Cs out;
    for (std::int64_t k = 0; k < n->size(); ++k) {
      switch (n->dtype) {
        case DType::kFloat64: out.emplace_back(read.as<double>()[k]); break;
        case DType::kFloat32: out.emplace_back(read.as<float>()[k]); break;
        case DType::kBool: out.emplace_back(read.as<unsigned char>()[k]); break;
        case DType::kComplex128: out.emplace_back(C(read.as<std::complex<double>>()[k])); break;
        case DType::kComplex64: out.emplace_back(C(read.as<std::complex<float>>()[k])); break;
        case DType::kInt64: out.emplace_back(static_cast<T>(read.as<std::int64_t>()[k])); break;
        default: FAIL("a leaf of another dtype");
      }
    }
    return out;
  }

  // An op that treats all parts alike, by the evaluator of real numbers.
  Cs by_parts(const Node* n) {
    Cs out(static_cast<std::size_t>(n->size()));
    for (const bool imaginary : {false, true}) {
      std::vector<UOp> src;
      NodeMap<Value<double>> given;
      for (Node* s : n->src()) {
        const Cs& v = values_.at(s);
        if (is_integer(s->dtype)) {
          src.push_back(UOp::share(s));
          continue;
        }
        src.push_back(symbol(s->dtype == DType::kBool ? DType::kBool : DType::kFloat64, s->shape()));
        Value<double> value{src.back()->dtype, shape_of(s), {}, {}};
        for (const C& c : v)
          if (s->dtype == DType::kBool)
            value.integer.push_back(c.real() != 0);
          else
            value.real.push_back(static_cast<double>(imaginary ? c.imag() : c.real()));
        given.insert(src.back().get(), std::move(value));
      }
      const UOp part = make(n->op, std::span<const UOp>(src), n->arg());
      Node* root = part.get();
      const Leaf<double> leaves = [&](const Node* x) -> std::optional<Value<double>> {
        const auto* v = given.find(x);
        return v ? std::optional(*v) : std::nullopt;
      };
      const auto result = evaluate<double>(std::span<Node* const>(&root, 1), leaves);
      for (std::size_t k = 0; k < out.size(); ++k)
        out[k] = imaginary ? C(out[k].real(), result[0].real[k]) : C(result[0].real[k], 0);
    }
    return out;
  }

  Cs product(const Node* n) {
    const Node* x = n->src(0);
    Cs out(static_cast<std::size_t>(n->size()), C(1));
    const Dims strides = evaluate_detail::strides_of(n->shape());
    evaluate_detail::for_each_index(x->shape(), [&](std::int64_t flat, const Dims& index) {
      std::int64_t to = 0;
      for (std::size_t i = 0, k = 1, d = 0; i < index.size(); ++i) {
        if (k < n->n_arg && n->arg(k) == static_cast<std::int64_t>(i))
          ++k;
        else
          to += index[i] * strides[d++];
      }
      out[static_cast<std::size_t>(to)] *= values_.at(x)[static_cast<std::size_t>(flat)];
    });
    return out;
  }

  Cs matrix_product(const Node* n) {
    const Cs &a = values_.at(n->src(0)), &b = values_.at(n->src(1));
    const std::size_t rank = n->n_dim;
    const auto rows = static_cast<std::size_t>(n->shape()[rank - 2]),
               cols = static_cast<std::size_t>(n->shape()[rank - 1]),
               inner = static_cast<std::size_t>(n->src(0)->shape()[rank - 1]);
    Cs out(static_cast<std::size_t>(n->size()));
    for (std::size_t k = 0; k < out.size(); ++k) {
      const std::size_t batch = k / (rows * cols), r = k / cols % rows, c = k % cols;
      for (std::size_t j = 0; j < inner; ++j)
        out[k] += a[(batch * rows + r) * inner + j] * b[(batch * inner + j) * cols + c];
    }
    return out;
  }

  Cs of(const Node* n) {
    if (n->op == Op::BUFFER) return leaf(n);
    if (n->n_src == 0 || is_integer(n->dtype)) return Cs();  // plain numbers: by the evaluator
    if (is_movement(n->op) || n->op == Op::CUMSUM || n->op == Op::GATHER || n->op == Op::SCATTER_ADD ||
        n->op == Op::WHERE)
      return by_parts(n);
    if (n->op == Op::REDUCE) return n->arg(0) == 1 ? product(n) : by_parts(n);
    if (n->op == Op::MATMUL) return matrix_product(n);
    const Cs& x = values_.at(n->src(0));
    Cs out;
    if (n->op == Op::AS_REAL) {
      for (const C& v : x) out.insert(out.end(), {C(v.real()), C(v.imag())});
      return out;
    }
    if (n->op == Op::AS_COMPLEX) {
      for (std::size_t k = 0; k < x.size(); k += 2) out.emplace_back(x[k].real(), x[k + 1].real());
      return out;
    }
    for (std::size_t k = 0; k < x.size(); ++k) {
      C v = element(n, x[k], n->n_src > 1 ? values_.at(n->src(1))[k] : C());
      if (n->dtype == DType::kComplex64 || n->dtype == DType::kFloat32) v = C(std::complex<float>(v));
      out.push_back(v);
    }
    return out;
  }

  static C element(const Node* n, const C& a, const C& b) {
    switch (n->op) {
      case Op::CONJ: return std::conj(a);
      case Op::NEG: return -a;
      case Op::CAST: return a;
      case Op::ADD: return a + b;
      case Op::SUB: return a - b;
      case Op::MUL: return a * b;
      case Op::DIV: return a / b;
      case Op::SQRT: return std::sqrt(a);
      case Op::EXP: return std::exp(a);
      case Op::LOG: return std::log(a);
      case Op::SIN: return std::sin(a);
      case Op::COS: return std::cos(a);
      case Op::TAN: return std::tan(a);
      case Op::SINH: return std::sinh(a);
      case Op::COSH: return std::cosh(a);
      case Op::TANH: return std::tanh(a);
      case Op::POW: {
        if (a != C(0)) return std::exp(b * std::log(a));
        const T at_zero = b.real() > 0 ? 0 : std::numeric_limits<T>::quiet_NaN();
        return b == C(0) ? C(1) : C(at_zero, at_zero);
      }
      case Op::POWI: {
        C r = 1;
        for (std::int64_t k = std::abs(n->arg(0)); k > 0; --k) r *= a;
        return n->arg(0) < 0 ? C(1) / r : r;
      }
      default: FAIL("no reference for ", name(n->op));
    }
    return {};
  }

  NodeMap<Cs> values_;
};

}  // namespace

TEST_CASE("complex: random graphs are what std::complex makes of them, on each device") {
  const std::uint64_t seed = seed_from_environment(20261130);
  std::set<Op> seen;
  int compared = 0;
  for (std::uint64_t k = 0; k < 150; ++k) {
    RandomGraph random(seed + k, true);
    const DType d = random.one_in(4) ? DType::kComplex64 : DType::kComplex128;
    const UOp z = random.complex(d, random.shape(), 4);
    CAPTURE(seed + k);
    CAPTURE(to_text(z));
    Reference<double> reference;
    const auto plain = reference.run(z);
    const auto exact = Reference<long double>().run(z);
    for (Node* n : toposort(z)) seen.insert(n->op);
    const auto check = [&](const Tensor& t) {
      const auto got = t.astype(DType::kComplex128).to_vector<std::complex<double>>();
      REQUIRE(got.size() == plain.size());
      bool narrow = false;
      for (Node* n : toposort(z)) narrow |= real_dtype(n->dtype) == DType::kFloat32;
      double size = 0, noise = 0;
      for (std::size_t i = 0; i < plain.size(); ++i) {
        size = std::max(size, std::abs(plain[i]));
        noise = std::max(noise, std::abs(std::complex<double>(exact[i]) - plain[i]));
      }
      if (!reference.all_finite || !(size < 1e100) || !(noise <= 1e-9 * size)) return;
      ++compared;
      for (std::size_t i = 0; i < got.size(); ++i) {
        CAPTURE(i);
        CAPTURE(got[i]);
        CAPTURE(plain[i]);
        CHECK(std::abs(got[i] - plain[i]) <= (narrow ? 1e-4 : 1e-12) * size + 100 * noise);
      }
    };
    check(tensor(z));
    if (k % 5 == 0) {
      const env::ScopedOverride where("TINYPHYS_DEVICE", "cpu"), opt("TINYPHYS_OPT", k % 2 ? "0" : "1");
      check(tensor(make(Op::NEG, {make(Op::NEG, {z})})));
    }
  }
  CHECK(compared > 120);
  for (const Op op :
       {Op::CONJ,   Op::NEG,    Op::ADD,         Op::SUB,     Op::MUL,       Op::DIV,     Op::SQRT,
        Op::EXP,    Op::LOG,    Op::SIN,         Op::COS,     Op::TAN,       Op::SINH,    Op::COSH,
        Op::TANH,   Op::POW,    Op::POWI,        Op::WHERE,   Op::CAST,      Op::RESHAPE, Op::PERMUTE,
        Op::EXPAND, Op::SLICE,  Op::PAD,         Op::ROLL,    Op::CAT,       Op::REDUCE,  Op::CUMSUM,
        Op::MATMUL, Op::GATHER, Op::SCATTER_ADD, Op::AS_REAL, Op::AS_COMPLEX}) {
    CAPTURE(name(op));
    CHECK(seen.contains(op));
  }
}

}  // namespace tinyphys::testing
