// Operations keep their meaning whatever a renderer can say: spelled out in full, and as LLVM has them.
#include "backend/kernel_helpers.hpp"
#include "codegen/kernel.hpp"
#include "render/llvm_ir.hpp"
#include "runtime/cpu/jit.hpp"
#include "support/env.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

const double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

// Each value of a dtype that may matter, against each other one.
std::pair<Bytes, Bytes> pairs(DType d) {
  std::vector<double> v{0, 1, -1, 2, -2, 3, -3, 7, -7, 63, 64, 1000, -1000};
  if (is_float(d))
    v.insert(v.end(), {-0.0, 0.5, -0.5, 2.5, -7.25, kInf, -kInf, kNan, 1e300, -1e300, 2147483647.0,
                       2147483648.0, -2147483648.0, -2147483649.0, 9.3e18, -9.3e18, 0x1p63, -0x1p63});
  if (d == DType::kBool) v = {0, 1};
  if (d == DType::kInt32) v.insert(v.end(), {2147483647.0, -2147483648.0});
  const auto n = static_cast<std::int64_t>(v.size() + (d == DType::kInt64 ? 2 : 0));
  Bytes values(d, {n}), a(d, {n * n}), b(d, {n * n});
  for (std::size_t i = 0; i < v.size(); ++i) values.set(static_cast<std::int64_t>(i), v[i]);
  if (d == DType::kInt64) {
    values.as<std::int64_t>()[n - 2] = std::numeric_limits<std::int64_t>::max();
    values.as<std::int64_t>()[n - 1] = std::numeric_limits<std::int64_t>::min();
  }
  const std::size_t item = item_size(d);
  for (std::int64_t i = 0; i < n * n; ++i) {
    std::memcpy(a.data.data() + static_cast<std::size_t>(i) * item,
                values.data.data() + static_cast<std::size_t>(i / n) * item, item);
    std::memcpy(b.data.data() + static_cast<std::size_t>(i) * item,
                values.data.data() + static_cast<std::size_t>(i % n) * item, item);
  }
  return {a, b};
}

std::vector<Bytes> run_with(const RenderCaps& caps, const UOp& kernel, const std::vector<Bytes>& args) {
  static int number = 0;
  Target target = jit().target();
  target.render = caps;
  const Kernel k = lower_kernel(kernel, target);
  const std::string name = "lowered_" + std::to_string(number++);
  const auto code =
      jit().load(jit().compile(render_llvm_ir(k, jit().render_target()), name, CodeStyle::kVector), name,
                 static_cast<int>(k.parts.size()));
  std::vector<Bytes> results;
  std::vector<void*> outputs;
  std::vector<const void*> inputs;
  for (Node* o : kernel->src()) results.emplace_back(o->dtype, shape_of(o));
  for (Bytes& r : results) outputs.push_back(r.data.data());
  for (const Bytes& a : args) inputs.push_back(a.data.data());
  const std::vector<std::int64_t> slots(args.size(), 0);
  for (std::size_t i = 0; i < k.parts.size(); ++i)
    code->functions[i](outputs.data(), inputs.data(), slots.data(), 0, k.parts[i].units, 0, 0);
  return results;
}

// Bit for bit, but for the payload of a NaN.
void check_bits(const UOp& y, const std::vector<Bytes>& args) {
  const UOp kernel = lambda({y}, static_cast<std::int64_t>(args.size()));
  const Bytes expected = run(device("interp"), kernel, args)[0];
  for (const RenderCaps& caps :
       {RenderCaps{}, RenderCaps{.integer_extrema = true}, RenderCaps{.saturating_casts = true}, kLlvmCaps}) {
    const Bytes got = run_with(caps, kernel, args)[0];
    std::int64_t wrong = 0, first = -1;
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const std::size_t item = item_size(got.dtype), at = static_cast<std::size_t>(i) * item;
      const bool nan = is_float(got.dtype) && std::isnan(got.real(i)) && std::isnan(expected.real(i));
      if (!nan && std::memcmp(got.data.data() + at, expected.data.data() + at, item) != 0 && wrong++ == 0)
        first = i;
    }
    CAPTURE(first);
    CHECK(wrong == 0);
  }
}

}  // namespace

TEST_CASE("every operation on every pair of values that may matter") {
  // Among them arithmetic on bools, which a kernel can do, but which the front end never records.
  const env::ScopedOverride unchecked("TINYPHYS_VERIFY", "0");
  for (const DType d : {DType::kFloat64, DType::kFloat32, DType::kInt64, DType::kInt32, DType::kBool}) {
    CAPTURE(name(d));
    const auto [a, b] = pairs(d);
    const std::int64_t n = a.size();
    const UOp x = tensor(0, {n}, d), y = tensor(1, {n}, d);
    for (const Op o :
         {Op::ADD, Op::SUB, Op::MUL, Op::DIV, Op::MOD, Op::MAX, Op::MIN, Op::LT, Op::LE, Op::EQ, Op::NE}) {
      if (d == DType::kFloat32 && o == Op::MOD) continue;  // the evaluator rounds r + b once, a kernel twice
      CAPTURE(name(o));
      check_bits(op(o, {x, y}), {a, b});
    }
    for (const Op o : {Op::NEG, Op::ABS, Op::SIGN, Op::FLOOR, Op::CEIL}) {
      CAPTURE(name(o));
      check_bits(op(o, {x}), {a});
    }
    if (d != DType::kBool)
      for (const std::int64_t k : {-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 13}) {
        if (d == DType::kFloat32 || (is_float(d) && (k < -4 || k > 4)))
          continue;  // roundings and the library differ
        CAPTURE(k);
        check_bits(powi(x, k), {a});
      }
    if (is_integer(d)) check_bits(op(Op::POW, {x, y}), {a, b});
    for (const DType to : {DType::kFloat64, DType::kFloat32, DType::kInt64, DType::kInt32, DType::kBool}) {
      CAPTURE(name(to));
      check_bits(cast(x, to), {a});
    }
  }
}

TEST_CASE("reductions of every kind, across lanes") {
  std::mt19937_64 rng(41);
  for (const DType d : {DType::kFloat64, DType::kInt64, DType::kInt32}) {
    CAPTURE(name(d));
    const Bytes v = random_values(rng, d, {8, 300}, -9, 9);
    const UOp x = tensor(0, {8, 300}, d);
    for (const Reduction r : {Reduction::kMax, Reduction::kMin})
      for (const Dims& axes : {Dims{0}, Dims{1}, Dims{0, 1}}) check_bits(reduce(r, x, axes), {v});
  }
  std::vector<double> v(2400, 1.5);
  v[77] = kNan;
  check_bits(reduce(Reduction::kMax, tensor(0, {2400}), Dims{0}), {doubles({2400}, v)});
}

TEST_CASE("what a renderer cannot say is not there after lowering") {
  const auto [a, b] = pairs(DType::kInt64);
  const std::int64_t n = a.size();
  const UOp x = tensor(0, {n}), i = tensor(1, {n}, DType::kInt64);
  const UOp kernel = lambda(
      {reduce(Reduction::kMax, add(op(Op::MOD, {x, x}), powi(x, -3)), Dims{0}),
       cast(reduce(Reduction::kMin, op(Op::MOD, {op(Op::DIV, {i, i}), cast(x, DType::kInt64)}), Dims{0}),
            DType::kFloat64)},
      2);
  for (const bool rich : {false, true}) {
    Target target;
    if (rich) target.render = kLlvmCaps;
    std::size_t plain = 0;
    for (const Kernel::Part& part : lower_kernel(kernel, target).parts)
      for (const Instr& instr : part.program.code) {
        CHECK(instr.code != Code::kAcross);
        if (instr.code != Code::kOp) continue;
        const DType of = part.program.code[static_cast<std::size_t>(instr.src[0])].dtype;
        CHECK(instr.op != Op::POWI);
        if (instr.op == Op::MAX || instr.op == Op::MIN) CHECK((rich && is_integer(of)));
        if (instr.op == Op::MOD || (instr.op == Op::DIV && is_integer(of))) CHECK(instr.plain);
        plain += instr.plain;
      }
    CHECK(plain >= 3);
  }
}
