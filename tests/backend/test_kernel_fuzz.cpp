// Random graphs of exact operations: the CPU must give the interpreter's values in every bit, whatever the
// order of a sum. Values are small whole numbers, kept small by MOD.
#include <cstdlib>

#include "backend/kernel_helpers.hpp"
#include "codegen/index.hpp"
#include "runtime/cpu/jit.hpp"
#include "support/env.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

class Fuzz {
 public:
  explicit Fuzz(std::uint64_t seed) : rng_(seed) {}

  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(rng_() % static_cast<std::uint64_t>(n));
  }
  std::mt19937_64& rng() { return rng_; }

  Dims shape() {
    Dims s;
    for (std::int64_t rank = 1 + below(3); rank > 0; --rank)
      s.push_back(below(6) == 0 ? 1 : 1 + below(below(4) ? 7 : 40));
    return s;
  }

  // |v| < 97 after it.
  static UOp small(const UOp& x) { return op(Op::MOD, {x, full_like(x, 97)}); }

  UOp step(const UOp& x, const std::vector<UOp>& others) {
    const auto shape = shape_of(x.get());
    const auto rank = static_cast<std::int64_t>(shape.size());
    const std::int64_t axis = rank ? below(rank) : 0;
    const std::int64_t n = rank ? shape[static_cast<std::size_t>(axis)] : 1;
    switch (below(rank ? 18 : 4)) {
      case 0:
        return unary(std::array{Op::NEG, Op::ABS, Op::SIGN, Op::FLOOR}[static_cast<std::size_t>(below(4))],
                     x);
      case 1:
      case 2: {
        UOp other = others[static_cast<std::size_t>(below(static_cast<std::int64_t>(others.size())))];
        if (!same_shape(other.get(), x.get())) other = full_like(x, static_cast<double>(below(5)));
        return small(
            op(std::array{Op::ADD, Op::SUB, Op::MUL, Op::MAX, Op::MIN}[static_cast<std::size_t>(below(5))],
               {x, other}));
      }
      case 3: return where(compare(Op::LT, x, full_like(x, 3)), x, unary(Op::NEG, x));
      case 4:
      case 5: {  // reshape: to one axis, or one axis in two
        if (below(2)) return reshape(x, Dims{x->size()});
        for (std::int64_t f : {2, 3, 5, 7})
          if (n % f == 0 && rank < 4) {
            Dims s = shape;
            s[static_cast<std::size_t>(axis)] = f;
            s.insert(s.begin() + axis + 1, n / f);
            return reshape(x, s);
          }
        return reshape(x, Dims{x->size(), 1});
      }
      case 6: {
        Dims axes;
        for (std::int64_t i = 0; i < rank; ++i) axes.push_back(i);
        std::shuffle(axes.begin(), axes.end(), rng_);
        return permute(x, axes);
      }
      case 7: return op(Op::ROLL, {x}, {axis, below(n)});
      case 8: return flip(x, axis);
      case 9: {
        const std::int64_t start = below(n), stop = start + below(n - start) + 1, step = 1 + below(3);
        return slice_axis(x, axis, start, stop, step);
      }
      case 10: {
        std::vector<std::int64_t> arg{bits(static_cast<double>(below(5)))};
        for (std::int64_t i = 0; i < rank; ++i) {
          arg.push_back(below(3));
          arg.push_back(below(4));
        }
        return make(Op::PAD, std::array{x}, arg);
      }
      case 11: return cat(std::vector<UOp>{x, below(2) ? flip(x, axis) : unary(Op::NEG, x), x}, axis);
      case 12:
      case 13: {
        Dims axes{axis};
        if (below(2))
          for (std::int64_t i = axis + 1; i < rank; ++i) axes.push_back(i);
        const auto kind =
            std::array{Reduction::kSum, Reduction::kMax, Reduction::kMin}[static_cast<std::size_t>(below(3))];
        const UOp r = small(reduce(kind, x, axes));
        return below(2) && axes.size() == 1 ? repeat_axis(r, axis, n) : r;
      }
      case 14: return small(op(Op::CUMSUM, {x}, {axis}));
      case 15: {
        const std::int64_t m = 1 + below(9);
        const UOp at = op(Op::MOD, {op(Op::MUL, {iota(m), full(DType::kInt64, Dims{m}, 5)}),
                                    full(DType::kInt64, Dims{m}, static_cast<double>(n))});
        return op(Op::GATHER, {x, at}, {axis});
      }
      case 16: {
        const UOp flat = reshape(x, Dims{x->size()});
        return op(
            Op::GATHER,
            {flat, cast(unary(Op::ABS, op(Op::MOD, {flat, full_like(flat, static_cast<double>(x->size()))})),
                        DType::kInt64)},
            {0});
      }
      default:
        if (rank != 2 || x->size() > 400) return x;
        return small(matmul(x, permute(x, Dims{1, 0})));
    }
  }

 private:
  std::mt19937_64 rng_;
};

}  // namespace

TEST_CASE("random kernels agree with the interpreter in every bit") {
  const char* text = std::getenv("TINYPHYS_FUZZ_SEED");
  const std::uint64_t first = text && *text ? std::strtoull(text, nullptr, 10) : 1;
  const int count = text && *text ? 1 : env::long_tests() ? 4000 : 250;
  for (int round = 0; round < count; ++round) {
    const std::uint64_t seed = first + static_cast<std::uint64_t>(round);
    CAPTURE(seed);  // TINYPHYS_FUZZ_SEED=<seed> repeats it
    Fuzz f(seed);
    const Dims s = f.shape();
    const DType d = f.below(3) ? DType::kFloat64 : DType::kFloat32;
    std::vector<UOp> made{tensor(0, s, d), tensor(1, s, d)};
    UOp x = made[0];
    for (std::int64_t k = 2 + f.below(9); k > 0; --k) {
      const UOp next = f.step(x, made);
      if (next->size() == 0 || next->size() > 20'000) continue;
      x = next;
      made.push_back(x);
    }
    std::vector<UOp> outputs{x};
    for (const UOp& m : made)
      if (same_shape(m.get(), x.get()) && f.below(3) == 0 && outputs.size() < 3) outputs.push_back(m);
    Bytes a(d, s), b(d, s);
    for (std::int64_t i = 0; i < a.size(); ++i) {
      a.set(i, static_cast<double>(f.below(19) - 9));
      b.set(i, static_cast<double>(f.below(19) - 9));
    }
    const UOp kernel = lambda(outputs, 2);
    // Sums of products of float32 stay below 2^24 only for short ones: compare values, not more than that.
    check_kernel(kernel, {a, b});
  }
}

TEST_CASE("index arithmetic keeps the value") {
  std::mt19937_64 rng(2);
  auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(n));
  };
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    IndexMath m;
    const std::int64_t ea = 1 + below(9), eb = 1 + below(9);
    const UOp a = m.range(0, ea), b = m.range(1, eb);
    // The same random expression in symbols and in numbers.
    UOp e = m.add(m.mul(a, 1 + below(8)), m.mul(b, 1 + below(8)));
    std::vector<UOp> numbers;
    const std::vector<std::int64_t> at{below(ea), below(eb)};
    auto value = [&](const UOp& u) {
      NodeMap<std::int64_t> v;
      for (Node* n : toposort(u)) {
        auto in = [&](std::size_t i) { return v.at(n->src(i)); };
        std::int64_t r = 0;
        switch (n->op) {
          case Op::CONST: r = const_int(n); break;
          case Op::RANGE: r = at[static_cast<std::size_t>(n->arg(0))]; break;
          case Op::ADD: r = in(0) + in(1); break;
          case Op::MUL: r = in(0) * in(1); break;
          case Op::DIV: r = in(0) / in(1); break;
          case Op::MOD: r = in(0) % in(1); break;
          case Op::MAX: r = std::max(in(0), in(1)); break;
          case Op::MIN: r = std::min(in(0), in(1)); break;
          case Op::LT: r = in(0) < in(1); break;
          case Op::WHERE: r = in(0) ? in(1) : in(2); break;
          default: FAIL("unexpected op");
        }
        v.insert(n, r);
      }
      return v.at(u.get());
    };
    for (int k = 0; k < 6; ++k) {
      const std::int64_t c = 1 + below(9), before = value(e);
      UOp next;
      std::int64_t expected = 0;
      switch (below(6)) {
        case 0: next = m.div(e, c), expected = before >= 0 ? before / c : -((-before + c - 1) / c); break;
        case 1: next = m.mod(e, c), expected = ((before % c) + c) % c; break;
        case 2: next = m.add(m.mul(e, c), -below(4) * c), expected = value(next); break;
        case 3: next = m.add(m.mul(m.div(e, c), c), m.mod(e, c)), expected = before; break;
        case 4: next = m.clamp(e, c), expected = std::min(std::max<std::int64_t>(before, 0), c - 1); break;
        default:
          next = m.where(m.less(e, c), m.add(e, c), m.add(e, -c)),
          expected = before < c ? before + c : before - c;
      }
      CHECK(value(next) == expected);
      const Bounds bounds = m.bounds(next.get());
      CHECK((bounds.lo <= expected && expected <= bounds.hi));
      e = next;
    }
  }
}

TEST_CASE("the same bits for any number of threads, and from run to run") {
  std::mt19937_64 rng(12);
  const std::int64_t n = 300'001;
  const Bytes v = random_values(rng, DType::kFloat64, {n});
  const UOp x = tensor(0, {n});
  const UOp mean = scaled(sum_all(x), 1.0 / static_cast<double>(n));
  const UOp wave = mul(unary(Op::SIN, x), unary(Op::EXP, x));
  const UOp table = tensor(0, {100, 3000});
  for (const UOp& k : {lambda({wave}, 1), lambda({sum_all(wave), sum_all(x)}, 1),
                       lambda({sub(x, broadcast_to(mean, Dims{n}))}, 1)}) {
    std::vector<Bytes> first;
    for (const char* threads : {"1", "2", "5", "2"}) {
      const env::ScopedOverride scope("TINYPHYS_THREADS", threads);
      const auto r = run(tested_device(), k, {v});
      if (first.empty()) first = r;
      for (std::size_t o = 0; o < r.size(); ++o) CHECK(r[o].data == first[o].data);
    }
  }
  Bytes t(DType::kFloat64, {100, 3000});
  std::copy(v.data.begin(), v.data.begin() + static_cast<std::ptrdiff_t>(t.data.size()), t.data.begin());
  for (Dims axes : {Dims{0}, Dims{1}, Dims{0, 1}}) {
    std::vector<Bytes> first;
    for (const char* threads : {"1", "2", "3"}) {
      const env::ScopedOverride scope("TINYPHYS_THREADS", threads);
      const auto r = run(tested_device(), lambda({sum(unary(Op::EXP, table), axes)}, 1), {t});
      if (first.empty()) first = r;
      CHECK(r[0].data == first[0].data);
    }
  }
}

TEST_CASE("equal text is compiled once while somebody holds it") {
  const UOp k = lambda({mul(tensor(0, {123}), broadcast_to(scalar(1), Dims{123}))}, 2);
  Device& d = tested_device();
  const std::int64_t before = kernels_compiled();
  const auto a = compile(d, k);
  const auto b = compile(d, k);
  CHECK(kernels_compiled() - before == 1);
  CHECK(a->name() == b->name());
  // An object can be loaded apart from its compilation.
  const UOp other = lambda({add(tensor(0, {5}), tensor(0, {5}))}, 1);
  const Source source = source_of(d, other);
  const std::string bytes = d.compile(source);
  CHECK(bytes.size() > 0);
  const Executable e(source, other, d.load(source, bytes), 0);
  CHECK(launch(d, e, {doubles({5}, {1, 2, 3, 4, 5})})[0].real(4) == 10);
}

TEST_CASE("hosts with narrower vectors, and without libmvec") {
  std::mt19937_64 rng(31);
  const Bytes v = random_values(rng, DType::kFloat64, {19, 37}),
              f = random_values(rng, DType::kFloat32, {19, 37});
  const UOp x = tensor(0, {19, 37}), y = tensor(1, {19, 37}, DType::kFloat32);
  const UOp wave = add(unary(Op::SIN, x), cast(unary(Op::EXP, y), DType::kFloat64));
  for (const UOp& k : {lambda({wave, cast(wave, DType::kInt32)}, 2), lambda({sum(wave, Dims{1})}, 2),
                       lambda({sum(wave, Dims{0})}, 2), lambda({op(Op::ROLL, {wave}, {1, 5})}, 2)}) {
    const auto expected = run(device("interp"), k, {v, f});
    for (int bytes : {16, 32, 64})
      for (bool math : {true, false}) {
        if (bytes > jit().target().vector_bytes) continue;
        CAPTURE(bytes);
        CAPTURE(math);
        const Kernel kernel = lower_kernel(k, {bytes, bytes == 64});
        const std::string text = render_llvm_ir(kernel, {bytes, math});
        const std::string name = "test_" + std::to_string(bytes) + (math ? "m" : "s");
        const auto code = jit().load(jit().compile(text, name, CodeStyle::kVector), name,
                                     static_cast<int>(kernel.parts.size()));
        std::vector<Bytes> got;
        std::vector<void*> outputs;
        for (Node* o : k->src()) got.emplace_back(o->dtype, shape_of(o));
        for (Bytes& b : got) outputs.push_back(b.data.data());
        const void* inputs[] = {v.data.data(), f.data.data()};
        const std::int64_t slots[] = {0, 0};
        for (std::size_t i = 0; i < kernel.parts.size(); ++i)
          code->functions[i](outputs.data(), inputs, slots, 0, kernel.parts[i].units, 0, 0);
        compare(got, expected, 1e-6, 10);  // exp in float32
      }
  }
}
