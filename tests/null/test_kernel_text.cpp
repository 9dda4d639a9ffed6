// What the code generator writes, without running it. The null device has a fixed target, so texts do not
// depend on the host.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "derive/complex.hpp"
#include "render/opencl_c.hpp"
#include "runtime/device.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

using namespace tinyphys;

namespace {

UOp lambda(const std::vector<UOp>& outputs, std::int64_t n) {
  return make(Op::LAMBDA, outputs, std::vector<std::int64_t>{n});
}
UOp tensor(std::int64_t i, Dims shape, DType d = DType::kFloat64) { return param(i, d, shape); }
std::string text_of(const UOp& kernel) { return compile(device("null"), kernel)->text(); }
int count(const std::string& text, const std::string& what) {
  int n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("golden: y = a x + y") {
  const UOp a = broadcast_to(param(2, DType::kFloat64, Dims{}, true), Dims{64});
  CHECK(
      text_of(lambda({add(mul(tensor(0, {64}), a), tensor(1, {64}))}, 3)) ==
      R"(define void @kernel_0(ptr %outputs, ptr %inputs, ptr %slots, i64 %begin, i64 %end, i64 %first, i64 %last) #0 {
entry:
  %in0.p = getelementptr ptr, ptr %inputs, i64 0
  %in0 = load ptr, ptr %in0.p
  %in1.p = getelementptr ptr, ptr %inputs, i64 1
  %in1 = load ptr, ptr %in1.p
  %out0.p = getelementptr ptr, ptr %outputs, i64 0
  %out0 = load ptr, ptr %out0.p
  %t0 = getelementptr i64, ptr %slots, i64 2
  %t1 = load double, ptr %t0
  %t2 = insertelement <8 x double> poison, double %t1, i64 0
  %s0.x8 = shufflevector <8 x double> %t2, <8 x double> poison, <8 x i32> zeroinitializer
  %t3 = mul i64 %begin, 8
  %t4 = mul i64 %end, 8
  %t5 = call i64 @llvm.smin.i64(i64 %t4, i64 64)
  %t6 = icmp slt i64 %t3, %t5
  br i1 %t6, label %body8, label %exit8
body8:
  %i8 = phi i64 [ %t3, %entry ], [ %next8, %latch8 ]
  %t7 = getelementptr double, ptr %in0, i64 %i8
  %t8 = load <8 x double>, ptr %t7, align 8
  %t9 = fmul <8 x double> %t8, %s0.x8
  %t10 = getelementptr double, ptr %in1, i64 %i8
  %t11 = load <8 x double>, ptr %t10, align 8
  %t12 = fadd <8 x double> %t9, %t11
  %t13 = getelementptr double, ptr %out0, i64 %i8
  store <8 x double> %t12, ptr %t13, align 8
  br label %latch8
latch8:
  %next8 = add nsw i64 %i8, 8
  %more8 = icmp slt i64 %next8, %t5
  br i1 %more8, label %body8, label %exit8
exit8:
  ret void
}

declare i64 @llvm.smin.i64(i64, i64)

attributes #0 = { nounwind alignstack=64 "prefer-vector-width"="512" }
)");
}

TEST_CASE("views become index arithmetic, neighbouring axes one loop") {
  const UOp x = tensor(0, {12, 16});
  CHECK(count(text_of(lambda({mul(x, x)}, 1)), "phi") == 1);
  CHECK(count(text_of(lambda({reshape(reshape(x, Dims{4, 48}), Dims{192})}, 1)), "phi") == 1);
  CHECK(count(text_of(lambda({permute(permute(x, Dims{1, 0}), Dims{1, 0})}, 1)), "phi") == 1);
  CHECK(count(text_of(lambda({permute(x, Dims{1, 0})}, 1)), "phi") == 2);
  CHECK(count(text_of(lambda({sum_all(x)}, 1)), "phi") == 1);
  CHECK(count(text_of(lambda({sum(x, Dims{0})}, 1)), "phi") == 2);
  // Three-dimensional data, an operation along the last axis: the first two share a loop.
  const UOp y = tensor(0, {5, 6, 16});
  CHECK(count(text_of(lambda({make(Op::ROLL, {y}, {2, 3})}, 1)), "phi") == 2);
  // A rolled read is two masked loads, no gather.
  CHECK(count(text_of(lambda({make(Op::ROLL, {y}, {2, 3})}, 1)), "gather") == 0);
}

TEST_CASE("reductions over the same ranges share a loop, invariant work leaves it") {
  const UOp x = tensor(0, {512});
  CHECK(count(text_of(lambda({sum_all(x), sum_all(mul(x, x)), reduce(Reduction::kMax, x, Dims{0})}, 1)),
              "phi") == 1);
  const UOp m = tensor(0, {16, 32});
  const UOp e = unary(Op::EXP, sum(m, Dims{1}));  // once per row, not per element
  const std::string t = text_of(lambda({mul(m, repeat_axis(e, 1, 32))}, 1));
  CHECK(count(t, "call double @exp(") == 1);
  CHECK(count(t, "_ZGVeN8v_exp") == 0);
  CHECK(count(t, "phi") == 3);
}

TEST_CASE("long reductions are two loops in one kernel") {
  CHECK(compile(device("null"), lambda({sum_all(tensor(0, {1'000'000}))}, 1))->n_parts() == 2);
  CHECK(compile(device("null"), lambda({sum_all(tensor(0, {1'000}))}, 1))->n_parts() == 1);
  const UOp x = tensor(0, {1'000'000});
  const UOp mean = broadcast_to(sum_all(x), Dims{1'000'000}), c = sub(x, mean);
  CHECK(compile(device("null"), lambda({sum_all(mul(c, c))}, 1))->n_parts() == 3);
}

TEST_CASE("scalars are arguments, never text") {
  const UOp q = param(1, DType::kFloat64, Dims{2}), dt = param(2, DType::kFloat64, Dims{});
  const UOp body = lambda({add(q, mul(neg(q), broadcast_to(dt, Dims{2})))}, 3);
  auto kernel = [&](std::int64_t steps) {
    const UOp s =
        make(Op::SCAN, {body, constant_int(steps), tensor(0, {2}), param(1, DType::kFloat64, Dims{}, true)},
             {1, 0});
    return lambda({get(s, 0)}, 2);
  };
  CHECK(text_of(kernel(1000)) == text_of(kernel(1'000'000'000'000)));
  CHECK(count(text_of(kernel(1000)), "1000") == 0);
  CHECK(count(text_of(kernel(7)), "phi") == 1);
}

TEST_CASE("text is the same for graphs built again") {
  auto build = [] {
    const UOp x = tensor(0, {30, 40}), y = tensor(1, {40});
    const UOp z = add(mul(x, broadcast_to(y, Dims{30, 40})), make(Op::ROLL, {x}, {1, 3}));
    return text_of(lambda({sum(z, Dims{1}), reduce(Reduction::kMax, z, Dims{1})}, 2));
  };
  const std::string first = build();
  std::vector<UOp> clutter;  // other addresses
  for (int i = 0; i < 1000; ++i) clutter.push_back(constant(i + 0.125));
  CHECK(build() == first);
}

TEST_CASE("only what is larger than the caches passes them by, in whole vectors") {
  const auto text = [](std::int64_t n) { return text_of(lambda({add(tensor(0, {n}), tensor(1, {n}))}, 2)); };
  CHECK(text(5'000'000).find("align 64, !nontemporal") != std::string::npos);
  CHECK(text(5'000'001).find("!nontemporal") == std::string::npos);
  CHECK(text(1'000'000).find("!nontemporal") == std::string::npos);
}

TEST_CASE("golden: the text of an OpenCL device") {
  // One vector of four doubles at a time, the last of which is cut off; a sum of float32 in float64, with two vectors side
  // by side.
  const OpenClTarget target{.vector_bytes = 32};
  const auto text = [&](const UOp& k) {
    return render_opencl_c(lower_kernel(k, Target{.vector_bytes = 32, .render = kOpenClCaps}), target, "cl");
  };
  const UOp a = broadcast_to(param(2, DType::kFloat64, Dims{}, true), Dims{19});
  CHECK(text(lambda({where(compare(Op::LT, tensor(0, {19}), a), tensor(1, {19}), a)}, 3)) ==
        R"(#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF
#if defined(__has_builtin)
#if __has_builtin(__builtin_convertvector)
#define TO(type, x) __builtin_convertvector(x, type)
#endif
#endif
#ifndef TO
#define TO(type, x) convert_##type(x)
#endif
typedef struct __attribute__((packed)) {
  double4 v;
} packed_double4;
static void store_some_double4(__global double* to, double4 v, long n) {
  double lane[4];
  vstore4(v, 0, lane);
  for (long k = 0; k < min(n, 4L); ++k) to[k] = lane[k];
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void kernel_0(__global double* out0, __global const double* in0, __global const double* in1, double s2, long each, long units) {
  const long begin = (long)get_global_id(0) * each;
  if (begin >= units) return;
  const long end = min(begin + each, units);
  out0 += 128;
  in0 += 128;
  in1 += 128;
  const double r0 = s2;
  const long r4 = as_long(as_ulong(begin) * as_ulong((4L)));
  const long r5 = as_long(as_ulong(end) * as_ulong((4L)));
  const long r7 = min(r5, (19L));
  for (long i8 = r4; i8 < r7; i8 += 4) {
    const long n8 = r7 - i8;
    __global const double* x9 = in0 + (i8);
    const double4 r9 = ((__global const packed_double4*)(x9 + 0))->v;
    const int4 r10 = TO(int4, r9 < (double4)(r0));
    __global const double* x11 = in1 + (i8);
    const double4 r11 = ((__global const packed_double4*)(x11 + 0))->v;
    const double4 r12 = TO(long4, r10) ? r11 : (double4)(r0);
    if (n8 < 4) {
      store_some_double4((out0 + i8 + 0), r12, n8 - 0);
    } else {
      ((__global packed_double4*)(out0 + i8 + 0))->v = r12;
    }
  }
}
)");
  const std::string sum_text = text(lambda({sum_all(tensor(0, {64}, DType::kFloat32))}, 1));
  CHECK(count(sum_text, "TO(double4, r6_") == 4);
  CHECK(count(sum_text, "double2") == 3);  // halves, added to one number
  CHECK(count(sum_text, "store_some") == 0);
}

TEST_CASE("a product of complex numbers is made once for both of its parts") {
  const UOp product = mul(tensor(0, {64}, DType::kComplex128), tensor(1, {64}, DType::kComplex128));
  const std::string text = text_of(lower_complex_program(lambda({product}, 2)));
  CAPTURE(text);
  CHECK(count(text, " = fmul ") == 4);
  // Each part of each operand out of whole vectors, and both parts of the product into one.
  CHECK(count(text, "gather") == 0);
  CHECK(count(text, "shufflevector <8 x double>") == 4 + 1);
  CHECK(count(text, "store <16 x double>") == 1);
}
