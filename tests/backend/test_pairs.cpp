// Arrays of pairs, as complex numbers are: read and written as whole vectors, bit for bit as the interpreter.
#include <cstdint>
#include <string>
#include <vector>

#include "backend/kernel_helpers.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

UOp part(const UOp& pairs, std::int64_t i) {
  return index_axis(pairs, static_cast<std::int64_t>(pairs->shape().size()) - 1, i);
}
UOp pairs_of(const UOp& a, const UOp& b) {
  return stack(std::vector<UOp>{a, b}, static_cast<std::int64_t>(a->shape().size()));
}
// z w, as complex numbers.
UOp product(const UOp& z, const UOp& w) {
  return pairs_of(sub(mul(part(z, 0), part(w, 0)), mul(part(z, 1), part(w, 1))),
                  add(mul(part(z, 0), part(w, 1)), mul(part(z, 1), part(w, 0))));
}
bool contains(const std::string& text, const char* what) { return text.find(what) != std::string::npos; }

}  // namespace

TEST_CASE("pairs: products, parts and sums of squares, of every length") {
  std::mt19937_64 rng(5);
  for (const DType d : {DType::kFloat64, DType::kFloat32, DType::kInt64, DType::kInt32}) {
    for (const std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130, 1000}) {
      CAPTURE(n);
      const UOp z = tensor(0, {n, 2}, d), w = tensor(1, {n, 2}, d);
      const std::vector<Bytes> args{random_values(rng, d, {n, 2}, -9, 9),
                                    random_values(rng, d, {n, 2}, -9, 9)};
      check_kernel(lambda({product(z, w)}, 2), args);
      check_kernel(lambda({product(z, w), pairs_of(part(w, 1), part(z, 0))}, 2), args);
      check_kernel(lambda({pairs_of(part(z, 1), part(z, 1))}, 1), {args[0]});
      check_kernel(lambda({add(mul(part(z, 0), part(z, 0)), mul(part(z, 1), part(z, 1)))}, 1), {args[0]});
      check_kernel(lambda({sub(part(z, 1), part(w, 0))}, 2), args);
    }
  }
}

TEST_CASE("pairs: of several axes, of a broadcast, of a number, of bools") {
  std::mt19937_64 rng(6);
  for (const Dims& shape : {Dims{3, 5, 2}, Dims{4, 8, 2}, Dims{1, 16, 2}, Dims{16, 1, 2}, Dims{2, 3, 7, 2}}) {
    Dims last{shape[shape.size() - 2], 2}, flat(shape.begin(), shape.end() - 1);
    const UOp z = tensor(0, shape), w = tensor(1, last), x = scalar(2), y = tensor(3, flat);
    const UOp wide = broadcast_to(w, shape), number = broadcast_to(x, flat);
    const std::vector<Bytes> args{
        random_values(rng, DType::kFloat64, shape), random_values(rng, DType::kFloat64, last),
        random_values(rng, DType::kFloat64, {}), random_values(rng, DType::kFloat64, flat)};
    check_kernel(lambda({product(z, wide)}, 4), args);
    check_kernel(lambda({pairs_of(mul(part(z, 0), number), y)}, 4), args);
    check_kernel(lambda({pairs_of(number, number)}, 4), args);
    const UOp less = compare(Op::LT, part(z, 0), part(z, 1)), more = compare(Op::LT, y, part(wide, 1));
    check_kernel(lambda({pairs_of(less, more)}, 4), args);
    check_kernel(lambda({sum(product(z, wide), Dims{0})}, 4), args, 1e-14, 10);
    check_kernel(
        lambda({sum(mul(part(z, 1), part(z, 0)), Dims{static_cast<std::int64_t>(flat.size()) - 1})}, 4), args,
        1e-14, 10);
  }
}

TEST_CASE("pairs: every second element of an array, from the first or the second, up to its end") {
  std::mt19937_64 rng(7);
  for (const DType d : {DType::kFloat64, DType::kFloat32})
    for (const std::int64_t n : {2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 64, 65, 127, 128}) {
      CAPTURE(n);
      const UOp x = tensor(0, {n}, d);
      const std::vector<Bytes> args{random_values(rng, d, {n})};
      for (const std::int64_t from : {0, 1}) {
        const UOp every = op(Op::SLICE, {x}, {from, n, 2});
        check_kernel(lambda({add(every, every)}, 1), args);
        check_kernel(lambda({mul(op(Op::SLICE, {x}, {0, n - from, 1}), op(Op::SLICE, {x}, {from, n, 1}))}, 1),
                     args);
      }
      check_kernel(lambda({neg(op(Op::SLICE, {x}, {n - 1, -1, -2}))}, 1), args);
      if (n > 4) check_kernel(lambda({neg(op(Op::SLICE, {x}, {3, n, 2}))}, 1), args);
    }
}

TEST_CASE("pairs: whole vectors, no gathers and no scatters") {
  Device& cpu = device("cpu");
  for (const std::int64_t n : {4096, 4099}) {
    const UOp z = tensor(0, {n, 2}), w = tensor(1, {n, 2});
    const std::string text = compile(cpu, lambda({product(z, w)}, 2))->text();
    CHECK(contains(text, "shufflevector"));
    CHECK_FALSE(contains(text, "gather"));
    CHECK_FALSE(contains(text, "scatter"));
    CHECK(contains(text, "masked") == (n % 2 != 0));
  }
  // An array with an odd number of elements is none of pairs: its last one stands alone.
  const UOp odd = op(Op::SLICE, {tensor(0, {4097})}, {0, 4097, 2});
  CHECK(contains(compile(cpu, lambda({neg(odd)}, 1))->text(), "gather"));
}
