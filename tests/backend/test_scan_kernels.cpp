// Scan kernels: the whole time loop as one kernel, against the interpreter.
#include "backend/kernel_helpers.hpp"
#include "codegen/kernel.hpp"
#include "codegen/members.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

const DType kF = DType::kFloat64;

// params: index, carry..., xs slices..., captured...
UOp body(const std::vector<UOp>& outputs, std::int64_t n_params) { return lambda(outputs, n_params); }

UOp scan(const UOp& b, const UOp& steps, const std::vector<UOp>& carry, const std::vector<UOp>& xs,
         const std::vector<UOp>& captured) {
  std::vector<UOp> src{b, steps};
  for (const auto* list : {&carry, &xs, &captured}) src.insert(src.end(), list->begin(), list->end());
  return make(Op::SCAN, src,
              std::vector<std::int64_t>{static_cast<std::int64_t>(carry.size()),
                                        static_cast<std::int64_t>(xs.size())});
}

UOp times(const UOp& x, const UOp& s) { return mul(x, broadcast_to(s, x->shape())); }

// Leapfrog (kick, drift, kick) of H = p^2/2 + (x^2 + y^2)/2 + x^2 y - y^3/3.
UOp henon_heiles(const UOp& steps) {
  const UOp q = tensor(1, {2}), p = tensor(2, {2}), dt = tensor(3, {});
  auto kick = [&](const UOp& at, const UOp& momentum) {
    const UOp x = slice_axis(at, 0, 0, 1), y = slice_axis(at, 0, 1, 2);
    const UOp fx = neg(add(x, scaled(mul(x, y), 2))), fy = neg(sub(add(y, mul(x, x)), mul(y, y)));
    return add(momentum, times(cat(std::vector<UOp>{fx, fy}, 0), scaled(dt, 0.5)));
  };
  const UOp half = kick(q, p), moved = add(q, times(half, dt)), whole = kick(moved, half);
  return scan(body({moved, whole}, 4), steps, {tensor(0, {2}), tensor(1, {2})}, {}, {scalar(2)});
}

// Softened gravity between three bodies, q and p [3, 3], masses a tensor.
UOp three_bodies(const UOp& steps) {
  const UOp q = tensor(1, {3, 3}), p = tensor(2, {3, 3}), dt = tensor(3, {}), m = tensor(4, {3});
  auto force = [&](const UOp& at) {
    const UOp d = sub(repeat_axis(at, 0, 3), repeat_axis(at, 1, 3));  // d[i, j] = q_j - q_i
    const UOp r2 = offset(sum(mul(d, d), Dims{2}), 0.01);
    const UOp inv = op(Op::DIV, {ones_like(r2), mul(r2, unary(Op::SQRT, r2))});
    const UOp mm = mul(repeat_axis(m, 0, 3), repeat_axis(m, 1, 3));
    return sum(mul(d, repeat_axis(mul(mm, inv), 2, 3)), Dims{1});
  };
  const UOp half = add(p, times(force(q), scaled(dt, 0.5)));
  const UOp moved = add(q, times(div(half, repeat_axis(m, 1, 3)), dt));
  const UOp whole = add(half, times(force(moved), scaled(dt, 0.5)));
  return scan(body({moved, whole}, 5), steps, {tensor(0, {3, 3}), tensor(1, {3, 3})}, {},
              {scalar(2), tensor(3, {3})});
}

const Bytes kQ = doubles({3, 3}, {1, 0, 0, -0.5, 0.8, 0.1, -0.5, -0.8, -0.1});
const Bytes kP = doubles({3, 3}, {0, 0.3, 0, -0.2, -0.1, 0.05, 0.2, -0.2, -0.05});
const Bytes kMass = doubles({3}, {1, 0.5, 2});

}  // namespace

TEST_CASE("Henon-Heiles: one kernel, bits of the interpreter") {
  for (std::int64_t n : {0, 1, 7, 1000}) {
    const UOp s = henon_heiles(constant_int(n));
    long ops = 0;
    CHECK(fits_scan_kernel(s.get(), ops));
    CHECK(ops > 10);
    check_kernel(lambda({get(s, 0), get(s, 1)}, 3),
                 {doubles({2}, {0.1, 0.2}), doubles({2}, {0.3, -0.1}), doubles({}, {0.01})});
    check_kernel(lambda({get(s, 1)}, 3),
                 {doubles({2}, {0.1, 0.2}), doubles({2}, {0.3, -0.1}), doubles({}, {0.01})});
  }
}

TEST_CASE("three bodies, steps as a slot") {
  const UOp s = three_bodies(scalar(4, DType::kInt64));
  check_kernel(lambda({get(s, 0), get(s, 1)}, 5),
               {kQ, kP, doubles({}, {0.01}), kMass, values(DType::kInt64, {}, {500})}, 1e-12, 1);
}

TEST_CASE("a scan in pieces has the bits of the whole") {
  const UOp s = three_bodies(constant_int(100));
  const UOp k = lambda({get(s, 0), get(s, 1)}, 4);
  for (const std::string_view name : {env::device(), std::string_view("interp")}) {
    Device& d = device(name);
    const auto whole = run(d, k, {kQ, kP, doubles({}, {0.01}), kMass});
    auto part = run(d, k, {kQ, kP, doubles({}, {0.01}), kMass}, {0, 33});
    part = run(d, k, {part[0], part[1], doubles({}, {0.01}), kMass}, {33, 100});
    compare(part, whole, 0);
  }
}

TEST_CASE("index, xs, stacked outputs and integer carry") {
  // carry: float [2], int64 [], int32 [2]; xs float [n, 2] and int64 [n]; captured [2]
  const std::int64_t n = 23;
  const UOp i = tensor(0, {}, DType::kInt64), a = tensor(1, {2}), k = tensor(2, {}, DType::kInt64),
            w = tensor(3, {2}, DType::kInt32), x = tensor(4, {2}), j = tensor(5, {}, DType::kInt64),
            c = tensor(6, {2});
  const UOp a1 = add(mul(a, c), mul(x, broadcast_to(cast(i, kF), Dims{2})));
  const UOp k1 = add(op(Op::MUL, {k, constant_int(3)}), add(j, i));
  const UOp w1 =
      add(flip(w, 0), cast(broadcast_to(op(Op::MOD, {k1, constant_int(5)}), Dims{2}), DType::kInt32));
  const UOp b = body({a1, k1, w1, mul(a1, a1), op(Op::LT, {k1, constant_int(0)})}, 7);
  const UOp s = scan(b, constant_int(n),
                     {tensor(0, {2}), tensor(1, {}, DType::kInt64), full(DType::kInt32, Dims{2}, 4)},
                     {tensor(2, {n, 2}), tensor(3, {n}, DType::kInt64)}, {tensor(4, {2})});
  std::mt19937_64 rng(4);
  const std::vector<Bytes> args{doubles({2}, {1, 2}), values(DType::kInt64, {}, {7}),
                                random_values(rng, kF, {n, 2}), random_values(rng, DType::kInt64, {n}, -9, 9),
                                doubles({2}, {0.5, -0.25})};
  check_kernel(lambda({get(s, 0), get(s, 1), get(s, 2), get(s, 3), get(s, 4)}, 5), args);
  check_kernel(lambda({get(s, 3)}, 5), args);
  check_kernel(lambda({get(s, 4), get(s, 0)}, 5), args);
}

TEST_CASE("a scan inside a scan") {
  // inner: x -> x / 2 + c, three times, where the outer step gives c; the inner count is data
  const UOp inner_body = body({add(scaled(tensor(1, {2}), 0.5), tensor(2, {2}))}, 3);
  const UOp outer_x = tensor(1, {2}), count = tensor(2, {}, DType::kInt64),
            first = tensor(0, {}, DType::kInt64);
  const UOp inner = scan(inner_body, count, {outer_x}, {}, {broadcast_to(cast(first, kF), Dims{2})});
  const UOp s = scan(body({mul(get(inner, 0), get(inner, 0))}, 3), constant_int(6), {tensor(0, {2})}, {},
                     {scalar(1, DType::kInt64)});
  long ops = 0;
  CHECK(fits_scan_kernel(s.get(), ops));
  check_kernel(lambda({get(s, 0)}, 2), {doubles({2}, {0.3, 0.1}), values(DType::kInt64, {}, {3})});
  check_kernel(lambda({get(s, 0)}, 2), {doubles({2}, {0.3, 0.1}), values(DType::kInt64, {}, {0})});
}

TEST_CASE("a scan that ends on a condition is one kernel, also inside another") {
  // x doubles until it passes 100; n is the bound, and the step that passes is taken.
  const UOp x = tensor(1, {}), doubled = scaled(x, 2);
  const auto until = [](const UOp& b, const UOp& steps, const std::vector<UOp>& carry) {
    std::vector<UOp> src{b, steps};
    src.insert(src.end(), carry.begin(), carry.end());
    return make(Op::SCAN, src, std::vector<std::int64_t>{static_cast<std::int64_t>(carry.size()), 0, 1});
  };
  const UOp b = body({doubled, op(Op::LT, {constant(100.0), doubled})}, 2);
  for (const std::int64_t n : {0, 3, 20}) {
    const UOp s = until(b, constant_int(n), {tensor(0, {})});
    long ops = 0;
    CHECK(fits_scan_kernel(s.get(), ops));
    check_kernel(lambda({get(s, 0)}, 1), {doubles({}, {1})});
  }
  // Halved until below a tenth, then + 1: 30 times, with a count of all halvings.
  const UOp half = scaled(tensor(1, {}), 0.5);
  const UOp inner_body =
      body({half, add(tensor(2, {}, DType::kInt64), constant_int(1)), op(Op::LT, {half, constant(0.1)})}, 3);
  const UOp inner = until(inner_body, constant_int(50), {tensor(1, {}), tensor(2, {}, DType::kInt64)});
  const UOp outer = scan(body({offset(get(inner, 0), 1), get(inner, 1)}, 3), constant_int(30),
                         {tensor(0, {}), tensor(1, {}, DType::kInt64)}, {}, {});
  long ops = 0;
  CHECK(fits_scan_kernel(outer.get(), ops));
  check_kernel(lambda({get(outer, 0), get(outer, 1)}, 2),
               {doubles({}, {1000}), values(DType::kInt64, {}, {0})});
  // Rows that no step writes would have to be cleared: such a scan stays a loop of kernels.
  const UOp stacked =
      until(body({doubled, x, op(Op::LT, {constant(100.0), doubled})}, 2), constant_int(9), {tensor(0, {})});
  CHECK_FALSE(fits_scan_kernel(stacked.get(), ops));
}

TEST_CASE("state picked by an index that is known at run time") {
  const UOp x = tensor(1, {4}), i = tensor(0, {}, DType::kInt64);
  const UOp at = op(Op::MOD, {i, constant_int(4)});
  const UOp picked = op(Op::GATHER, {x, at}, {0});
  const UOp next = add(op(Op::ROLL, {x}, {0, 1}), times(unary(Op::SIN, x), picked));
  const UOp s = scan(body({next, picked}, 2), constant_int(9), {tensor(0, {4})}, {}, {});
  check_kernel(lambda({get(s, 0), get(s, 1)}, 1), {doubles({4}, {1, 2, 3, 4})}, 1e-13, 1);
}

TEST_CASE("reductions, matmul and cumsum in a body") {
  const UOp x = tensor(1, {6, 6}), m = tensor(2, {6, 6});
  const UOp y = matmul(m, x);
  const UOp norm = unary(Op::SQRT, sum_all(mul(y, y)));
  const UOp next = div(y, broadcast_to(norm, y->shape()));
  const UOp s = scan(body({next, reduce(Reduction::kMax, next, Dims{0}), op(Op::CUMSUM, {next}, {1})}, 3),
                     constant_int(8), {tensor(0, {6, 6})}, {}, {tensor(1, {6, 6})});
  std::mt19937_64 rng(4);
  check_kernel(lambda({get(s, 0), get(s, 1), get(s, 2)}, 2),
               {random_values(rng, kF, {6, 6}), random_values(rng, kF, {6, 6})}, 1e-12, 1);
}

TEST_CASE("what is too large for a scan kernel is said") {
  long ops = 0;
  const UOp x = tensor(1, {1000}), shifted = op(Op::ROLL, {x}, {0, 1});
  CHECK_FALSE(fits_scan_kernel(
      scan(body({mul(x, shifted)}, 2), constant_int(5), {tensor(0, {1000})}, {}, {}).get(), ops));
  const UOp y = tensor(1, {40, 40});
  CHECK_FALSE(fits_scan_kernel(
      scan(body({matmul(y, y)}, 2), constant_int(5), {tensor(0, {40, 40})}, {}, {}).get(), ops));
}

namespace {

// A step of `members` pendulums, driven: state x and v, both of this shape, and what drives them.
UOp pendulums(Dims shape, const UOp& steps) {
  const UOp x = tensor(1, shape), v = tensor(2, shape), k = tensor(3, shape), dt = tensor(4, {});
  const UOp faster = sub(v, mul(times(k, dt), mul(x, offset(mul(x, x), 1))));
  return scan(body({add(x, times(faster, dt)), faster}, 5), steps, {tensor(0, shape), tensor(1, shape)}, {},
              {tensor(2, shape), scalar(3)});
}

Members members_in(const std::vector<UOp>& outputs, const std::vector<UOp>& carry,
                   const std::vector<UOp>& captured = {}) {
  const auto n = static_cast<std::int64_t>(1 + carry.size() + captured.size());
  return members_of(scan(body(outputs, n), constant_int(5), carry, {}, captured).get());
}

}  // namespace

TEST_CASE("members of a scan run side by side, with the bits of the interpreter") {
  std::mt19937_64 rng(9);
  // Lanes filled and not, one place less and more; none where there are few.
  for (const std::int64_t n : {1, 3, 7, 8, 9, 31, 32, 33, 100, 1000}) {
    for (const std::int64_t steps : {0, 1, 17}) {
      const UOp s = pendulums({n}, constant_int(steps));
      CHECK(members_of(s.get()).extents == (n < 8 ? Dims() : Dims{n}));
      check_kernel(lambda({get(s, 0), get(s, 1)}, 4),
                   {random_values(rng, kF, {n}), random_values(rng, kF, {n}),
                    random_values(rng, kF, {n}, 0, 1), doubles({}, {0.1})});
      check_kernel(lambda({get(s, 1)}, 4), {random_values(rng, kF, {n}), random_values(rng, kF, {n}),
                                            random_values(rng, kF, {n}, 0, 1), doubles({}, {0.1})});
    }
  }
}

TEST_CASE("members along several axes, and axes of a few places beside them") {
  std::mt19937_64 rng(10);
  for (const Dims& shape :
       {Dims{50, 2}, Dims{2, 50}, Dims{20, 70}, Dims{70, 9}, Dims{9, 3, 11}, Dims{1, 40}}) {
    const UOp s = pendulums(shape, constant_int(12));
    Dims large;
    for (const std::int64_t d : shape)
      if (d >= 8) large.push_back(d);
    Dims found = members_of(s.get()).extents;
    std::ranges::sort(found);
    std::ranges::sort(large);
    CHECK(found == large);
    check_kernel(lambda({get(s, 1), get(s, 0)}, 4),
                 {random_values(rng, kF, shape), random_values(rng, kF, shape),
                  random_values(rng, kF, shape, 0, 1), doubles({}, {0.1})});
  }
}

TEST_CASE("members with a small product each, xs, stacked outputs, integers and the step") {
  const std::int64_t n = 21, steps = 6;
  std::mt19937_64 rng(11);
  // carry: x [n, 3], count int64 [n]; xs [steps, n] and [steps]; captured m [3, 3], at int64 [n]
  const UOp i = tensor(0, {}, DType::kInt64), x = tensor(1, {n, 3}), count = tensor(2, {n}, DType::kInt64),
            push = tensor(3, {n}), all = tensor(4, {}), m = tensor(5, {3, 3}),
            at = tensor(6, {n}, DType::kInt64);
  const UOp pushed = add(matmul(x, m), mul(repeat_axis(push, 1, 3), broadcast_to(all, Dims{n, 3})));
  const UOp next = mul(pushed, broadcast_to(constant(0.25), Dims{n, 3}));
  const UOp more = add(count, add(at, broadcast_to(i, Dims{n})));
  const UOp norm = sum(mul(next, next), Dims{1});
  const UOp s =
      scan(body({next, more, norm, slice_axis(next, 1, 1, 2)}, 7), constant_int(steps),
           {tensor(0, {n, 3}), tensor(1, {n}, DType::kInt64)}, {tensor(2, {steps, n}), tensor(3, {steps})},
           {tensor(4, {3, 3}), tensor(5, {n}, DType::kInt64)});
  CHECK(members_of(s.get()).extents == Dims{n});
  const std::vector<Bytes> args{
      random_values(rng, kF, {n, 3}),     random_values(rng, DType::kInt64, {n}, -9, 9),
      random_values(rng, kF, {steps, n}), random_values(rng, kF, {steps}),
      random_values(rng, kF, {3, 3}),     random_values(rng, DType::kInt64, {n}, -9, 9)};
  check_kernel(lambda({get(s, 0), get(s, 1), get(s, 2), get(s, 3)}, 6), args);
  check_kernel(lambda({get(s, 3)}, 6), args);
}

TEST_CASE("each member picks a state of its own by an index known at run time") {
  const std::int64_t n = 19;
  std::mt19937_64 rng(12);
  const UOp i = tensor(0, {}, DType::kInt64), x = tensor(1, {4, n});
  const UOp picked = op(Op::GATHER, {x, op(Op::MOD, {i, constant_int(4)})}, {0});
  const UOp next = add(op(Op::ROLL, {x}, {0, 1}), repeat_axis(mul(picked, picked), 0, 4));
  const UOp s = scan(body({next, picked}, 2), constant_int(7), {tensor(0, {4, n})}, {}, {});
  CHECK(members_of(s.get()).extents == Dims{n});
  check_kernel(lambda({get(s, 0), get(s, 1)}, 1), {random_values(rng, kF, {4, n}, -0.1, 0.1)});
}

TEST_CASE("members in pieces have the bits of the whole") {
  std::mt19937_64 rng(13);
  const UOp s = pendulums({45}, constant_int(100)), k = lambda({get(s, 0), get(s, 1)}, 4);
  const Bytes x = random_values(rng, kF, {45}), v = random_values(rng, kF, {45}),
              c = random_values(rng, kF, {45}, 0, 1), dt = doubles({}, {0.1});
  Device& d = tested_device();
  const auto whole = run(d, k, {x, v, c, dt});
  auto part = run(d, k, {x, v, c, dt}, {0, 41});
  part = run(d, k, {part[0], part[1], c, dt}, {41, 100});
  compare(part, whole, 0);
}

TEST_CASE("what joins members is no ensemble") {
  const std::int64_t n = 32;
  const UOp x = tensor(1, {n}), y = tensor(2, {n}), square = tensor(1, {n, n}), m = tensor(2, {n, n});
  const std::vector<UOp> one{tensor(0, {n})}, two{tensor(0, {n}), tensor(1, {n})};
  const auto none = [](const Members& found) { return found.extents.empty(); };
  CHECK_FALSE(none(members_in({mul(x, x)}, one)));
  CHECK(none(members_in({op(Op::ROLL, {x}, {0, 1})}, one)));
  CHECK(none(members_in({flip(x, 0)}, one)));
  CHECK(none(members_in({sub(x, broadcast_to(sum_all(x), Dims{n}))}, one)));
  CHECK(none(members_in({op(Op::CUMSUM, {x}, {0})}, one)));
  CHECK(none(members_in({cat(std::vector<UOp>{slice_axis(x, 0, 1, n), slice_axis(x, 0, 0, 1)}, 0)}, one)));
  CHECK(none(members_in({op(Op::GATHER, {x, op(Op::IOTA, {}, {n})}, {0})}, one)));
  CHECK(none(
      members_in({op(Op::RESHAPE, {op(Op::PERMUTE, {op(Op::RESHAPE, {x}, {8, 4})}, {1, 0})}, {n})}, one)));
  // Two carries that cross; one that crosses itself.
  CHECK(none(members_in({y, flip(x, 0)}, two)));
  CHECK(none(members_in({op(Op::PERMUTE, {square}, {1, 0})}, {tensor(0, {n, n})})));
  CHECK(none(members_in({matmul(m, square)}, {tensor(0, {n, n})}, {tensor(1, {n, n})})) == false);  // columns
  CHECK(members_in({matmul(m, square)}, {tensor(0, {n, n})}, {tensor(1, {n, n})}).axes[0] ==
        std::vector<std::size_t>{1});
  CHECK(none(members_in({matmul(square, square)}, {tensor(0, {n, n})})));
  // A carry that all share, and an output that all make.
  CHECK(none(members_in({x, add(tensor(2, {}), constant(1.0))}, {tensor(0, {n}), tensor(1, {})})));
  CHECK(none(members_in({mul(x, x), sum_all(x)}, one)));
}
