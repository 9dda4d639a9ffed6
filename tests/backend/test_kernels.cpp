// Map kernels on the CPU against the interpreter: every op, every dtype, odd sizes, views, reductions.
#include "backend/kernel_helpers.hpp"
#include "support/philox.hpp"
#include "tensor/access.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

const std::vector<std::int64_t> kSizes{0, 1, 7, 8, 9, 1000, 4097};
constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");
const DType kF = DType::kFloat64;
// libmvec: 4 ulp each side of libm's 1.
constexpr double kMath64 = 8 * 0x1p-53, kMath32 = 8 * 0x1p-24;

double math_tolerance(DType d) { return d == DType::kFloat32 ? kMath32 : kMath64; }

Bytes spread(DType d, std::int64_t n, double lo, double hi) {
  std::mt19937_64 rng(17);
  return random_values(rng, d, {n}, lo, hi);
}

}  // namespace

TEST_CASE("unary ops of every dtype and size") {
  struct Case {
    Op op;
    double lo, hi;
  };
  const std::vector<Case> cases{
      {Op::NEG, -3, 3},     {Op::ABS, -3, 3},   {Op::SIGN, -3, 3},    {Op::SQRT, 0, 9},   {Op::EXP, -9, 9},
      {Op::EXPM1, -2, 2},   {Op::LOG, 0.01, 9}, {Op::LOG1P, -0.9, 9}, {Op::SIN, -9, 9},   {Op::COS, -9, 9},
      {Op::TAN, -1.4, 1.4}, {Op::ASIN, -1, 1},  {Op::ACOS, -1, 1},    {Op::ATAN, -5, 5},  {Op::SINH, -4, 4},
      {Op::COSH, -4, 4},    {Op::TANH, -4, 4},  {Op::ERF, -3, 3},     {Op::FLOOR, -9, 9}, {Op::CEIL, -9, 9}};
  for (const Case& c : cases)
    for (DType d : {DType::kFloat64, DType::kFloat32})
      for (std::int64_t n : kSizes) {
        CAPTURE(name(c.op));
        CAPTURE(name(d));
        CAPTURE(n);
        const UOp x = tensor(0, {n}, d);
        // Near a zero of the function the error is relative to the argument's.
        check_kernel(lambda({op(c.op, {x})}, 1), {spread(d, n, c.lo, c.hi)}, math_tolerance(d), 1);
      }
  for (Op o : {Op::NEG, Op::ABS, Op::SIGN, Op::FLOOR, Op::CEIL})
    for (DType d : {DType::kInt64, DType::kInt32})
      check_kernel(lambda({op(o, {tensor(0, {37}, d)})}, 1), {spread(d, 37, -100, 100)});
  check_kernel(lambda({op(Op::NOT, {tensor(0, {37}, DType::kBool)})}, 1),
               {values(DType::kBool, {37}, {1, 0, 0, 1, 1})});
}

TEST_CASE("special values go through elementwise ops") {
  const std::vector<double> hard{0.0, -0.0, kInf, -kInf, kNan, 1.5, -1.5, 5e-324, 1e308, -1e-310, 2, -2};
  for (Op o : {Op::NEG, Op::ABS, Op::SIGN, Op::SQRT, Op::FLOOR, Op::CEIL, Op::EXP, Op::LOG, Op::SIN, Op::TANH,
               Op::ATAN}) {
    CAPTURE(name(o));
    check_kernel(lambda({op(o, {tensor(0, {12})})}, 1), {doubles({12}, hard)}, kMath64);
  }
  std::vector<double> a, b;
  for (double x : hard)
    for (double y : hard) {
      a.push_back(x);
      b.push_back(y);
    }
  for (Op o : {Op::ADD, Op::SUB, Op::MUL, Op::DIV, Op::MAX, Op::MIN, Op::LT, Op::LE, Op::EQ, Op::NE, Op::MOD,
               Op::POW, Op::ATAN2}) {
    CAPTURE(name(o));
    const double tolerance = o == Op::POW || o == Op::ATAN2 ? kMath64 : 0;
    check_kernel(lambda({op(o, {tensor(0, {144}), tensor(1, {144})})}, 2),
                 {doubles({144}, a), doubles({144}, b)}, tolerance);
  }
}

TEST_CASE("binary ops of every dtype") {
  std::mt19937_64 rng(3);
  for (DType d : {DType::kFloat64, DType::kFloat32, DType::kInt64, DType::kInt32})
    for (Op o :
         {Op::ADD, Op::SUB, Op::MUL, Op::DIV, Op::MOD, Op::MAX, Op::MIN, Op::LT, Op::LE, Op::EQ, Op::NE})
      for (std::int64_t n : {1, 9, 1000}) {
        CAPTURE(name(d));
        CAPTURE(name(o));
        const Bytes a = random_values(rng, d, {n}, -50, 50), b = random_values(rng, d, {n}, -5, 5);
        check_kernel(lambda({op(o, {tensor(0, {n}, d), tensor(1, {n}, d)})}, 2), {a, b},
                     d == DType::kFloat32 && o == Op::MOD ? 1e-6 : 0);
      }
  for (DType d : {DType::kFloat64, DType::kFloat32}) {
    const Bytes a = random_values(rng, d, {1000}, 0.1, 5), b = random_values(rng, d, {1000}, -3, 3);
    for (Op o : {Op::POW, Op::ATAN2})
      check_kernel(lambda({op(o, {tensor(0, {1000}, d), tensor(1, {1000}, d)})}, 2), {a, b},
                   2 * math_tolerance(d));
  }
  const Bytes p = values(DType::kBool, {9}, {0, 1, 1, 0, 1}), q = values(DType::kBool, {9}, {1, 1, 0, 0});
  for (Op o : {Op::AND, Op::OR, Op::EQ, Op::NE, Op::LT, Op::LE, Op::MAX, Op::MIN}) {
    CAPTURE(name(o));
    check_kernel(lambda({op(o, {tensor(0, {9}, DType::kBool), tensor(1, {9}, DType::kBool)})}, 2), {p, q});
  }
}

TEST_CASE("random numbers have the same bits on every device") {
  std::mt19937_64 rng(4);
  for (std::int64_t n : {1, 3, 8, 1003}) {
    Bytes key(DType::kInt64, {n}), counter(DType::kInt64, {n});
    for (std::int64_t i = 0; i < n; ++i) {
      key.as<std::int64_t>()[i] = static_cast<std::int64_t>(rng());
      counter.as<std::int64_t>()[i] = static_cast<std::int64_t>(rng());
    }
    for (const philox::Draw d : {philox::Draw{0, 0, 53}, philox::Draw{2, 1, 63}, philox::Draw{1, 1, 1}})
      check_kernel(lambda({op(Op::PHILOX, {tensor(0, {n}, DType::kInt64), tensor(1, {n}, DType::kInt64)},
                              {philox::number(d)})},
                          2),
                   {key, counter});
    for (const std::int64_t seed : {0, -7, 12345})
      for (const Tensor& t :
           {Tensor::rand({n}, seed), Tensor::randn({n}, seed), Tensor::rand({n}, seed, DType::kFloat32),
            Tensor::randn({n}, seed, DType::kFloat32), Tensor::randint(-5, 1000, {n}, seed)})
        check_kernel(lambda({uop(t)}, 0), {});
  }
}

TEST_CASE("integers wrap and divide without a trap") {
  const double big = 9.2e18;
  for (DType d : {DType::kInt64, DType::kInt32}) {
    Bytes a = values(d, {40}, {7, -7, 0, 5, -1, 100, -100, 3}),
          b = values(d, {40}, {2, -2, 0, 0, -1, 7, -3, 1, -1});
    const double lowest = d == DType::kInt64 ? -9223372036854775808.0 : -2147483648.0;
    a.set(1, lowest);
    b.set(1, -1);
    a.set(2, lowest);
    b.set(2, 0);
    for (Op o : {Op::DIV, Op::MOD, Op::MUL, Op::ADD, Op::SUB, Op::POW}) {
      CAPTURE(name(o));
      check_kernel(lambda({op(o, {tensor(0, {40}, d), tensor(1, {40}, d)})}, 2), {a, b});
      for (double v : {-7.0, -1.0, 0.0, 1.0, 2.0, 10.0})  // by a number in the text
        check_kernel(lambda({op(o, {tensor(0, {40}, d), full(d, Dims{40}, v)})}, 1), {a});
    }
    for (std::int64_t k = -3; k <= 7; ++k)
      check_kernel(lambda({op(Op::POWI, {tensor(0, {40}, d)}, {k})}, 1), {a});
  }
  const Bytes huge = doubles({8}, {big, -big, 1e300, -1e300, kNan, kInf, -0.5, 2.5e9});
  for (DType d : {DType::kInt64, DType::kInt32, DType::kBool, DType::kFloat32})
    check_kernel(lambda({cast(tensor(0, {8}), d)}, 1), {huge});
}

TEST_CASE("casts between all dtypes") {
  const std::vector<DType> all{DType::kBool, DType::kInt32, DType::kInt64, DType::kFloat32, DType::kFloat64};
  for (DType from : all)
    for (DType to : all)
      for (std::int64_t n : {1, 9, 100}) {
        CAPTURE(name(from));
        CAPTURE(name(to));
        check_kernel(lambda({op(Op::CAST, {tensor(0, {n}, from)}, {static_cast<std::int64_t>(to)})}, 1),
                     {values(from, {n}, {0, 1, -1, 2.75, -3.25, 1e6, 0.5})});
      }
}

TEST_CASE("small powers are products, fma rounds once, where picks") {
  const Bytes x = spread(DType::kFloat64, 100, -3, 3);
  for (std::int64_t k = -4; k <= 4; ++k)
    check_kernel(lambda({op(Op::POWI, {tensor(0, {100})}, {k})}, 1), {x});
  for (std::int64_t k : {-9, 5, 6, 64})
    check_kernel(lambda({op(Op::POWI, {tensor(0, {100})}, {k})}, 1), {x}, 16 * kMath64);
  const Bytes a = doubles({9}, {1 + 0x1p-30, 3}), b = doubles({9}, {1 - 0x1p-30, 1.0 / 3}),
              c = doubles({9}, {-1, -1});
  const UOp fma = op(Op::FMA, {tensor(0, {9}), tensor(1, {9}), tensor(2, {9})});
  check_kernel(lambda({fma}, 3), {a, b, c});
  check_kernel(lambda({add(mul(tensor(0, {9}), tensor(1, {9})), tensor(2, {9}))}, 3), {a, b, c});
  const UOp w = where(compare(Op::LT, tensor(0, {100}), full(DType::kFloat64, Dims{100}, 0.5)),
                      tensor(0, {100}), full(DType::kFloat64, Dims{100}, kNan));
  check_kernel(lambda({w}, 1), {x});
}

TEST_CASE("scalar slots of every dtype") {
  for (DType d : {DType::kFloat64, DType::kFloat32, DType::kInt64, DType::kInt32}) {
    const UOp s = broadcast_to(scalar(1, d), Dims{19});
    check_kernel(lambda({add(mul(tensor(0, {19}, d), s), s)}, 2), {spread(d, 19, -9, 9), values(d, {}, {3})},
                 is_float(d) ? 1e-7 : 0);
  }
  const UOp flag = broadcast_to(scalar(1, DType::kBool), Dims{19});
  for (double v : {0.0, 1.0})
    check_kernel(lambda({where(flag, tensor(0, {19}), neg(tensor(0, {19})))}, 2),
                 {spread(DType::kFloat64, 19, -9, 9), values(DType::kBool, {}, {v})});
}

TEST_CASE("movement ops and views of views") {
  std::mt19937_64 rng(5);
  for (DType d : {DType::kFloat64, DType::kFloat32, DType::kInt32, DType::kBool})
    for (Dims s : {Dims{5, 4, 7}, Dims{16, 3, 8}, Dims{1, 9, 33}}) {
      CAPTURE(shape_text(s));
      const Bytes v = random_values(rng, d, s, 0, 3);
      const UOp x = tensor(0, s, d);
      const std::int64_t n = x->size();
      const UOp p = permute(x, Dims{2, 0, 1});
      const UOp flat = reshape(p, Dims{n});
      const UOp rolled = op(Op::ROLL, {x}, {2, 3}), rolled0 = op(Op::ROLL, {rolled}, {1, s[1] - 1});
      const UOp padded = op(Op::PAD, {x}, {is_float(d) ? bits(2.0) : 1, 1, 2, 0, 3, 4, 0});
      const UOp inner = slice(x, Dims{0, s[0], 1, s[1] - 1, -1, -1, 1, s[2], 2});
      for (const UOp& y :
           {p, flat, rolled, rolled0, padded, inner, flip(x, 2), flip(reshape(p, Dims{n}), 0),
            op(Op::ROLL, {flat}, {0, 5}), permute(padded, Dims{1, 2, 0}),
            op(Op::ROLL, {permute(padded, Dims{1, 2, 0})}, {1, 2}),
            cat(std::vector<UOp>{x, flip(x, 1), inner->size() ? x : x}, 1),
            cat(std::vector<UOp>{flat, flip(flat, 0), flat}, 0), op(Op::PAD, {inner}, {0, 0, 1, 1, 0, 2, 2}),
            reshape(rolled0, Dims{s[1], n / s[1]})}) {
        check_kernel(lambda({y}, 1), {v});
        check_kernel(lambda({reshape(y, Dims{y->size()})}, 1), {v});
        if (is_float(d)) check_kernel(lambda({add(y, unary(Op::ABS, y))}, 1), {v});
      }
    }
}

TEST_CASE("transpose, broadcast and slices at odd sizes") {
  std::mt19937_64 rng(6);
  for (std::int64_t n : {1, 7, 8, 9, 65})
    for (std::int64_t m : {1, 3, 16, 33}) {
      const Bytes a = random_values(rng, DType::kFloat64, {n, m}),
                  b = random_values(rng, DType::kFloat64, {m});
      const UOp x = tensor(0, {n, m}), y = tensor(1, {m});
      check_kernel(lambda({mul(x, broadcast_to(y, Dims{n, m}))}, 2), {a, b});
      check_kernel(lambda({add(permute(x, Dims{1, 0}), repeat_axis(y, 1, n))}, 2), {a, b});
      check_kernel(lambda({slice(x, Dims{n - 1, -1, -1, 0, m, 2})}, 1), {a});
    }
}

TEST_CASE("several outputs share their work") {
  std::mt19937_64 rng(8);
  const Bytes a = random_values(rng, DType::kFloat64, {77}), b = random_values(rng, DType::kFloat64, {77});
  const UOp x = tensor(0, {77}), y = tensor(1, {77}), p = mul(x, y);
  check_kernel(lambda({add(p, x), cast(p, DType::kInt32), compare(Op::LT, x, y), x}, 2), {a, b});
  const UOp m = tensor(0, {7, 11});
  check_kernel(lambda({sum(m, Dims{1}), reduce(Reduction::kMax, m, Dims{1}), sum(mul(m, m), Dims{1})}, 1),
               {doubles({7, 11}, {1, -2, 3, 0.5, -4})}, 1e-15);
  check_kernel(lambda({sum_all(x), sum_all(mul(x, x)), reduce(Reduction::kMin, y, Dims{0})}, 2), {a, b},
               1e-14, 10);
}

TEST_CASE("reductions over each axis, of every kind and dtype") {
  std::mt19937_64 rng(9);
  for (DType d : {DType::kFloat64, DType::kFloat32, DType::kInt64, DType::kInt32})
    for (Dims s : {Dims{3, 5, 17}, Dims{40, 2, 3}, Dims{1, 130, 9}}) {
      const Bytes v = random_values(rng, d, s, -2.5, 2.5);
      const UOp x = tensor(0, s, d);
      for (Reduction r : {Reduction::kSum, Reduction::kProd, Reduction::kMax, Reduction::kMin})
        for (Dims axes : {Dims{0}, Dims{1}, Dims{2}, Dims{0, 1}, Dims{1, 2}, Dims{0, 2}, Dims{0, 1, 2}}) {
          CAPTURE(name(d));
          CAPTURE(name(r));
          CAPTURE(shape_text(s));
          CAPTURE(shape_text(axes));
          const double eps = d == DType::kFloat32 ? 1e-5 : 1e-13;
          check_kernel(lambda({reduce(r, x, axes)}, 1), {v}, eps, r == Reduction::kSum ? 30 : 0);
        }
      check_kernel(lambda({sum(permute(x, Dims{2, 0, 1}), Dims{0, 1})}, 1), {v}, 1e-5, 30);
    }
  for (std::int64_t n : kSizes) {
    if (n == 0) continue;
    CAPTURE(n);
    const Bytes v = random_values(rng, DType::kFloat64, {n});
    check_kernel(lambda({sum_all(tensor(0, {n}))}, 1), {v}, 1e-14, 50);
    check_kernel(lambda({reduce(Reduction::kMax, tensor(0, {n}), Dims{0})}, 1), {v});
  }
  check_kernel(lambda({sum_all(tensor(0, {0}))}, 1), {doubles({0}, {1})});
  check_kernel(lambda({sum(tensor(0, {0, 4}), Dims{0})}, 1), {doubles({0, 4}, {1})});
}

TEST_CASE("maximum of a NaN is NaN") {
  std::vector<double> v(100, 1.0);
  v[63] = kNan;
  check_kernel(lambda({reduce(Reduction::kMax, tensor(0, {100}), Dims{0})}, 1), {doubles({100}, v)});
  check_kernel(lambda({reduce(Reduction::kMin, tensor(0, {10, 10}), Dims{1})}, 1), {doubles({10, 10}, v)});
}

TEST_CASE("reductions inside elementwise, and inside reductions") {
  std::mt19937_64 rng(10);
  for (Dims s : {Dims{6, 50}, Dims{50, 6}, Dims{3, 1000}}) {
    const std::int64_t n = s[0], m = s[1];
    const Bytes v = random_values(rng, DType::kFloat64, s);
    const UOp x = tensor(0, s);
    const UOp top = repeat_axis(reduce(Reduction::kMax, x, Dims{1}), 1, m);
    const UOp e = unary(Op::EXP, sub(x, top));
    const UOp soft = div(e, repeat_axis(sum(e, Dims{1}), 1, m));
    check_kernel(lambda({soft}, 1), {v}, 1e-14);
    const UOp soft0 = div(x, repeat_axis(sum(unary(Op::EXP, x), Dims{0}), 0, n));
    check_kernel(lambda({soft0}, 1), {v}, 1e-14);
    const UOp mean = scaled(sum_all(x), 1.0 / static_cast<double>(n * m));
    const UOp centred = sub(x, broadcast_to(mean, s));
    check_kernel(lambda({sum_all(mul(centred, centred))}, 1), {v}, 1e-12, 1);
    check_kernel(lambda({sum(mul(centred, soft), Dims{1})}, 1), {v}, 1e-12, 1);
    check_kernel(lambda({sum_all(mul(sum(x, Dims{1}), reduce(Reduction::kMax, x, Dims{1})))}, 1), {v}, 1e-12,
                 10);
  }
}

TEST_CASE("matmul, cumsum and gather") {
  std::mt19937_64 rng(11);
  for (auto [n, k, m] :
       {std::array<std::int64_t, 3>{3, 4, 5}, {1, 33, 1}, {20, 7, 40}, {9, 1, 9}, {1, 200, 70}}) {
    const Bytes a = random_values(rng, DType::kFloat64, {n, k}),
                b = random_values(rng, DType::kFloat64, {k, m});
    check_kernel(lambda({matmul(tensor(0, {n, k}), tensor(1, {k, m}))}, 2), {a, b}, 1e-14, 10);
    check_kernel(
        lambda({matmul(permute(tensor(1, {k, m}), Dims{1, 0}), permute(tensor(0, {n, k}), Dims{1, 0}))}, 2),
        {a, b}, 1e-14, 10);
  }
  const Bytes batch = random_values(rng, DType::kFloat64, {3, 4, 4});
  check_kernel(lambda({matmul(tensor(0, {3, 4, 4}), tensor(0, {3, 4, 4}))}, 1), {batch}, 1e-14, 10);
  for (Dims s : {Dims{30}, Dims{4, 9}, Dims{9, 4}})
    for (std::int64_t axis = 0; axis < static_cast<std::int64_t>(s.size()); ++axis)
      check_kernel(lambda({op(Op::CUMSUM, {tensor(0, s)}, {axis})}, 1),
                   {random_values(rng, DType::kFloat64, s)}, 1e-14, 10);
  for (DType d : {DType::kInt64, DType::kInt32})
    for (std::int64_t axis : {0, 1, 2}) {
      const UOp x = tensor(0, {6, 5, 7}), at = tensor(1, {2, 3}, d);
      check_kernel(lambda({op(Op::GATHER, {x, at}, {axis})}, 2),
                   {random_values(rng, DType::kFloat64, {6, 5, 7}), values(d, {2, 3}, {0, 4, -1, 2, 2, -5})});
    }
  const UOp at = tensor(1, {100}, DType::kInt64);
  check_kernel(lambda({mul(op(Op::GATHER, {unary(Op::ABS, tensor(0, {50})), at}, {0}), tensor(2, {100}))}, 3),
               {random_values(rng, DType::kFloat64, {50}), random_values(rng, DType::kInt64, {100}, 0, 49.9),
                random_values(rng, DType::kFloat64, {100})});
  check_kernel(
      lambda({op(Op::GATHER, {tensor(0, {50}), op(Op::MOD, {iota(100), full(DType::kInt64, Dims{100}, 50)})},
                 {0})},
             1),
      {random_values(rng, DType::kFloat64, {50})});
}

TEST_CASE("an index out of range reads inside the array") {
  const UOp at = tensor(1, {6}, DType::kInt64);
  const auto r = run(tested_device(), lambda({op(Op::GATHER, {tensor(0, {4}), at}, {0})}, 2),
                     {doubles({4}, {1, 2, 3, 4}), values(DType::kInt64, {6}, {0, 99, -99, 4, -1, 1e15})});
  for (std::int64_t i = 0; i < 6; ++i) CHECK((r[0].real(i) >= 1 && r[0].real(i) <= 4));
}

TEST_CASE("long reductions: several outputs, few results, nested") {
  std::mt19937_64 rng(12);
  const std::int64_t n = 200'003;
  const Bytes v = random_values(rng, DType::kFloat64, {n});
  const UOp x = tensor(0, {n});
  check_kernel(lambda({sum_all(x), sum_all(mul(x, x)), reduce(Reduction::kMax, x, Dims{0})}, 1), {v}, 1e-13,
               100);
  const UOp centred = sub(x, broadcast_to(scaled(sum_all(x), 1.0 / static_cast<double>(n)), Dims{n}));
  check_kernel(lambda({sum_all(mul(centred, centred))}, 1), {v}, 1e-12);
  check_kernel(lambda({centred}, 1), {v}, 1e-12, 1);
  const Bytes m = random_values(rng, DType::kFloat64, {3, 70'001});
  check_kernel(lambda({sum(tensor(0, {3, 70'001}), Dims{1})}, 1), {m}, 1e-12, 100);
  const Bytes t = random_values(rng, DType::kFloat64, {70'001, 3});
  check_kernel(lambda({sum(tensor(0, {70'001, 3}), Dims{0})}, 1), {t}, 1e-12, 100);
  check_kernel(lambda({sum_all(tensor(0, {70'001, 3}))}, 1), {t}, 1e-12, 100);
  check_kernel(lambda({sum_all(permute(tensor(0, {70'001, 3}), Dims{1, 0}))}, 1), {t}, 1e-12, 100);
}

TEST_CASE("forces of pairs: short axes beside long sums, in the result and below") {
  std::mt19937_64 rng(31);
  for (const std::int64_t n : {1, 5, 64, 65, 130})
    for (const std::int64_t d : {1, 2, 3, 4, 5}) {
      CAPTURE(n);
      CAPTURE(d);
      const UOp q = tensor(0, {n, d}), m = tensor(1, {n});
      const UOp row = broadcast_to(op(Op::RESHAPE, {q}, {1, n, d}), Dims{n, n, d});
      const UOp column = broadcast_to(op(Op::RESHAPE, {q}, {n, 1, d}), Dims{n, n, d});
      const UOp way = sub(row, column);
      const UOp r2 = offset(sum(mul(way, way), Dims{2}), 0.25);
      const UOp w = div(repeat_axis(m, 0, n), mul(r2, unary(Op::SQRT, r2)));
      const UOp pulls = mul(way, repeat_axis(w, 2, d));
      const std::vector<Bytes> args{random_values(rng, kF, {n, d}), random_values(rng, kF, {n}, 0, 1)};
      const auto check = [&](const std::vector<UOp>& outputs) {
        check_kernel(lambda(outputs, 2), args, 1e-13, 1);
      };
      check({sum(pulls, Dims{1})});
      check({sum(pulls, Dims{1}), sum(pulls, Dims{0})});
      check({sum(pulls, Dims{0, 1})});
      check({sum(pulls, Dims{1, 2})});
      check({reduce(Reduction::kMax, pulls, Dims{1}), sum(mul(pulls, pulls), Dims{1})});
      check({op(Op::PERMUTE, {sum(pulls, Dims{1})}, {1, 0})});
      check({sum(w, Dims{0}), sum(w, Dims{1})});
      check({pulls});
    }
}

TEST_CASE("large results, which pass by the caches") {
  // In whole vectors, and with one element more.
  for (const std::int64_t n : {5'000'000, 5'000'001}) {
    const UOp k = lambda({add(mul(tensor(0, {n}), broadcast_to(scalar(2), Dims{n})), tensor(1, {n}))}, 3);
    Bytes x(kF, {n}), y(kF, {n});
    for (std::int64_t i = 0; i < n; ++i) {
      x.as<double>()[i] = static_cast<double>(i % 1000);
      y.as<double>()[i] = static_cast<double>(i % 77) - 30;
    }
    const auto out = run(tested_device(), k, {x, y, doubles({}, {0.5})});
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < n; ++i)
      wrong += out[0].real(i) != static_cast<double>(i % 1000) * 0.5 + static_cast<double>(i % 77) - 30;
    CHECK(wrong == 0);
  }
}

TEST_CASE("blocks of a long reduction that are shorter than a vector") {
  std::mt19937_64 rng(13);
  const Bytes v = random_values(rng, DType::kFloat64, {70, 1024}, 0, 1);
  const UOp x = tensor(0, {70, 1024});
  check_kernel(lambda({sum_all(permute(x, Dims{1, 0}))}, 1), {v}, 1e-13);
  check_kernel(lambda({sum_all(unary(Op::EXP, permute(x, Dims{1, 0})))}, 1), {v}, 1e-13);
}

TEST_CASE("what no kernel can hold is an error") {
  CHECK_THROWS_AS(compile(tested_device(), lambda({tensor(0, {3}), tensor(1, {4})}, 2)), Error);
  CHECK_THROWS_AS(compile(tested_device(), tensor(0, {3})), Error);
  CHECK_THROWS_AS(device("gpu"), Error);
}
