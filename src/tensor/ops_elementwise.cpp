#include <array>
#include <bit>
#include <cstdint>
#include <string>

#include "derive/complex.hpp"
#include "support/devices.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tensor/engine_hook.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/pending.hpp"

namespace tinyphys {
namespace {

using front::Call;

// Which dtype the operands of a function take.
enum class Rule {
  kNumbers,  // the common dtype; bool becomes int64
  kBoolToo,  // the common dtype
  kFloats,   // the common dtype, integers and bool as float64
  kNotBool,  // the common dtype; bool is an error
  kOnlyBool
};

DType operand_dtype(Rule rule, std::initializer_list<const Arg*> args, Call call, const Where& where) {
  const DType d = front::common_dtype(args, call);
  switch (rule) {
    case Rule::kNumbers: return d == DType::kBool ? DType::kInt64 : d;
    case Rule::kBoolToo: return d;
    case Rule::kFloats: return front::float_dtype(d);
    case Rule::kNotBool:
      if (d == DType::kBool)
        front::fail(call, "is not defined for bool; use astype, or the logical operators", where);
      return d;
    case Rule::kOnlyBool:
      if (d != DType::kBool) front::fail(call, "needs bool operands, got " + std::string(name(d)), where);
      return d;
  }
  return d;
}

UOp operand(const Arg& a, DType d, Call call) { return cast(uop(a, d, call), d); }

Tensor unary(Call call, Op op, const Arg& x, Rule rule) {
  LocationScope scope(x.where());
  const DType d = operand_dtype(rule, {&x}, call, x.where());
  if (!takes_complex(op)) front::check_real(d, call, x.where());
  return tensor(make(op, {operand(x, d, call)}));
}
Tensor math(Call call, Op op, const Arg& x) { return unary(call, op, x, Rule::kFloats); }

UOp combine(Call call, Op op, const Arg& a, const Arg& b, DType d) {
  std::array<UOp, 2> v{operand(a, d, call), operand(b, d, call)};
  front::broadcast(v, call, a.where());
  return make(op, std::span<const UOp>(v));
}

// The way of most nodes: two tensors of one float dtype and one shape. No allocation but the node's.
bool plain_pair(const Arg& a, const Arg& b, std::array<UOp, 2>& src) {
  if (a.is_number() || b.is_number()) return false;
  src = {uop(a.tensor()), uop(b.tensor())};
  return src[0] && src[1] && src[0]->dtype == src[1]->dtype && is_float(src[0]->dtype) &&
         same_shape(src[0].get(), src[1].get());
}

bool is_complex_number(const Arg& a) { return a.kind() == Arg::Kind::kComplex; }

// A number beside x, of its shape. A loop writes the same few again and again: their nodes are remembered, not held.
UOp number_beside(const UOp& x, const Arg& a, Call call) {
  struct Seen {
    double value = 0;
    const Node* node = nullptr;
    std::uint32_t hash = 0;
    std::int64_t bits = 0;  // of the CONST
  };
  thread_local std::array<Seen, 16> recent;
  const double value = a.as_double();
  Seen& seen = recent[std::bit_cast<std::uint64_t>(value) * 0x9E3779B97F4A7C15u >> 60];
  if (seen.node && std::bit_cast<std::uint64_t>(seen.value) == std::bit_cast<std::uint64_t>(value))
    if (UOp known = find_alive(seen.node, seen.hash); known && same_shape(known.get(), x.get())) {
      const Node* n = known.get();  // another may stand there by now
      while (n->op == Op::EXPAND || n->op == Op::RESHAPE) n = n->src(0);
      if (n->op == Op::CONST && n->dtype == x->dtype && n->arg(1) == seen.bits) return known;
    }
  std::array<UOp, 2> v{x, uop(a, x->dtype, call)};
  const std::int64_t bits = v[1]->arg(1);
  front::broadcast(v, call, a.where());
  seen = {value, v[1].get(), v[1]->hash, bits};
  return v[1];
}

// The way of most other nodes: a float tensor and a C++ number. Null where it is not that.
UOp with_number(Call call, Op op, const Arg& a, const Arg& b) {
  if (a.is_number() == b.is_number() || is_complex_number(a) || is_complex_number(b)) return {};
  UOp x = uop((a.is_number() ? b : a).tensor());
  if (!x || !is_float(x->dtype)) return {};
  UOp y = number_beside(x, a.is_number() ? a : b, call);
  std::array<UOp, 2> src{std::move(x), std::move(y)};
  if (a.is_number()) std::swap(src[0], src[1]);
  return make_of(op, src);
}

bool is_complex_operand(const Arg& a) {
  return a.is_number() ? is_complex_number(a) : is_complex(uop(a.tensor())->dtype);
}

// A complex operand times a real one, or by it: each part is. No complex number is made of the real one, whose 0 would meet
// the infinities of the other.
UOp by_real(Call call, Op op, const Arg& z, const Arg& x, DType d, const Where& where) {
  const DType part = real_dtype(d);
  std::array<UOp, 2> v{operand(z, d, call), cast(x.is_number() ? uop(x, part, call) : uop(x.tensor()), part)};
  front::broadcast(v, call, where);
  return as_complex(make(op, {as_real(v[0]), repeat_axis(v[1], static_cast<std::int64_t>(v[1]->n_dim), 2)}));
}

Tensor binary(Call call, Op op, const Arg& a, const Arg& b, Rule rule) {
  LocationScope scope(a.where());
  std::array<UOp, 2> src;
  if (rule != Rule::kOnlyBool && plain_pair(a, b, src)) return tensor(make_of(op, src));
  if (rule != Rule::kOnlyBool)
    if (UOp made = with_number(call, op, a, b)) return tensor(std::move(made));
  DType d = operand_dtype(rule, {&a, &b}, call, a.where());
  if (!takes_complex(op)) front::check_real(d, call, a.where());
  if (is_complex(d) && (op == Op::MUL || op == Op::DIV)) {
    const bool first = is_complex_operand(a), second = is_complex_operand(b);
    if (first && !second) return tensor(by_real(call, op, a, b, d, a.where()));
    if (second && !first && op == Op::MUL) return tensor(by_real(call, op, b, a, d, a.where()));
  }
  if (d == DType::kBool && op == Op::ADD) op = Op::OR;
  if (d == DType::kBool && op == Op::MUL) op = Op::AND;
  if (d == DType::kBool && op == Op::MAX) op = Op::OR;
  if (d == DType::kBool && op == Op::MIN) op = Op::AND;
  return tensor(combine(call, op, a, b, d));
}

// a > b is b < a: one form for the rules to know.
Tensor compare(Call call, Op op, const Arg& a, const Arg& b, bool swapped = false) {
  LocationScope scope(a.where());
  const DType d = operand_dtype(Rule::kBoolToo, {&a, &b}, call, a.where());
  if (!takes_complex(op)) front::check_real(d, call, a.where());
  std::array<UOp, 2> v{operand(a, d, call), operand(b, d, call)};
  front::broadcast(v, call, a.where());
  if (swapped) std::swap(v[0], v[1]);
  return tensor(make(op, std::span<const UOp>(v)));
}

// An exponent that is a plain whole number of small size, as C++ number.
constexpr std::int64_t kMaxPowi = 64;
bool small_integer(const Arg& e, std::int64_t& k) {
  if (!e.is_number() || e.imag() != 0) return false;
  const double v = e.as_double();
  if (!(v >= -kMaxPowi && v <= kMaxPowi)) return false;
  k = static_cast<std::int64_t>(v);
  return static_cast<double>(k) == v;
}

// Squaring and multiplying: exact for integers, which wrap.
UOp integer_power(UOp x, std::int64_t k) {
  UOp result;
  for (; k > 0; k >>= 1) {
    if (k & 1) result = result ? make(Op::MUL, {result, x}) : x;
    if (k > 1) x = make(Op::MUL, {x, x});
  }
  return result;
}

void check_same_place(Call call, const Node* before, const Node* after, const Where& where) {
  if (!same_shape(before, after))
    front::fail(call,
                "the result " + shape_text(after->shape()) + " does not fit the left side " +
                    shape_text(before->shape()),
                where);
  const bool fits = front::same_kind(after->dtype, before->dtype);
  if (!fits)
    front::fail(call,
                "the result is " + std::string(name(after->dtype)) + ", the left side " +
                    std::string(name(before->dtype)) + "; use astype",
                where);
}

Tensor assign(Call call, const Tensor& left, const Tensor& result, const Where& where) {
  const UOp before = front::value(left, call, where), after = uop(result);
  check_same_place(call, before.get(), after.get(), where);
  LocationScope scope(where);
  return tensor(cast(after, before->dtype));
}

}  // namespace

Tensor operator+(const Arg& a, const Arg& b) { return binary("+", Op::ADD, a, b, Rule::kBoolToo); }
Tensor operator-(const Arg& a, const Arg& b) { return binary("-", Op::SUB, a, b, Rule::kNotBool); }
Tensor operator*(const Arg& a, const Arg& b) { return binary("*", Op::MUL, a, b, Rule::kBoolToo); }
Tensor operator/(const Arg& a, const Arg& b) { return binary("/", Op::DIV, a, b, Rule::kFloats); }
Tensor operator%(const Arg& a, const Arg& b) { return binary("%", Op::MOD, a, b, Rule::kNumbers); }
Tensor operator-(const Arg& x) { return unary("-", Op::NEG, x, Rule::kNotBool); }

Tensor& Tensor::operator+=(const Arg& b) & {
  return *this =
             assign("+=", *this, binary("+=", Op::ADD, Arg(*this, b.where()), b, Rule::kBoolToo), b.where());
}
Tensor& Tensor::operator-=(const Arg& b) & {
  return *this =
             assign("-=", *this, binary("-=", Op::SUB, Arg(*this, b.where()), b, Rule::kNotBool), b.where());
}
Tensor& Tensor::operator*=(const Arg& b) & {
  return *this =
             assign("*=", *this, binary("*=", Op::MUL, Arg(*this, b.where()), b, Rule::kBoolToo), b.where());
}
Tensor& Tensor::operator/=(const Arg& b) & {
  return *this =
             assign("/=", *this, binary("/=", Op::DIV, Arg(*this, b.where()), b, Rule::kFloats), b.where());
}

Tensor pow(const Arg& base, const Arg& exponent) {
  constexpr Call kCall = "pow";
  LocationScope scope(base.where());
  const DType d = operand_dtype(Rule::kNumbers, {&base, &exponent}, kCall, base.where());
  if (std::int64_t k = 0; small_integer(exponent, k)) {
    if (is_float(d) || is_complex(d)) return tensor(powi(operand(base, d, kCall), k));
    if (k < 0)
      front::fail(kCall,
                  "integers to the negative power " + std::to_string(k) + "; use astype(DType::kFloat64)",
                  base.where());
    const UOp x = operand(base, d, kCall);
    return tensor(k == 0 ? ones_like(x) : integer_power(x, k));
  }
  return tensor(combine(kCall, Op::POW, base, exponent, d));
}
Tensor square(const Arg& x) {
  LocationScope scope(x.where());
  const UOp v = operand(x, operand_dtype(Rule::kNotBool, {&x}, "square", x.where()), "square");
  return tensor(make(Op::MUL, {v, v}));
}
Tensor abs(const Arg& x) {
  LocationScope scope(x.where());
  const UOp v = front::value(x, "abs");
  if (is_complex(v->dtype)) return tensor(complex_abs(real_part(v), imag_part(v)));
  return tensor(v->dtype == DType::kBool ? v : make(Op::ABS, {v}));
}
Tensor sign(const Arg& x) { return unary("sign", Op::SIGN, x, Rule::kNotBool); }
Tensor maximum(const Arg& a, const Arg& b) { return binary("maximum", Op::MAX, a, b, Rule::kBoolToo); }
Tensor minimum(const Arg& a, const Arg& b) { return binary("minimum", Op::MIN, a, b, Rule::kBoolToo); }
Tensor fma(const Arg& a, const Arg& b, const Arg& c) {
  constexpr Call kCall = "fma";
  LocationScope scope(a.where());
  const DType d = operand_dtype(Rule::kFloats, {&a, &b, &c}, kCall, a.where());
  front::check_real(d, kCall, a.where());
  std::array<UOp, 3> v{operand(a, d, kCall), operand(b, d, kCall), operand(c, d, kCall)};
  front::broadcast(v, kCall, a.where());
  return tensor(make(Op::FMA, std::span<const UOp>(v)));
}

Tensor sqrt(const Arg& x) { return math("sqrt", Op::SQRT, x); }
Tensor rsqrt(const Arg& x) {
  LocationScope scope(x.where());
  const UOp root = uop(math("rsqrt", Op::SQRT, x));
  return tensor(make(Op::DIV, {ones_like(root), root}));
}
Tensor exp(const Arg& x) { return math("exp", Op::EXP, x); }
Tensor expm1(const Arg& x) { return math("expm1", Op::EXPM1, x); }
Tensor log(const Arg& x) { return math("log", Op::LOG, x); }
Tensor log1p(const Arg& x) { return math("log1p", Op::LOG1P, x); }
Tensor sin(const Arg& x) { return math("sin", Op::SIN, x); }
Tensor cos(const Arg& x) { return math("cos", Op::COS, x); }
Tensor tan(const Arg& x) { return math("tan", Op::TAN, x); }
Tensor asin(const Arg& x) { return math("asin", Op::ASIN, x); }
Tensor acos(const Arg& x) { return math("acos", Op::ACOS, x); }
Tensor atan(const Arg& x) { return math("atan", Op::ATAN, x); }
Tensor atan2(const Arg& y, const Arg& x) { return binary("atan2", Op::ATAN2, y, x, Rule::kFloats); }
Tensor sinh(const Arg& x) { return math("sinh", Op::SINH, x); }
Tensor cosh(const Arg& x) { return math("cosh", Op::COSH, x); }
Tensor tanh(const Arg& x) { return math("tanh", Op::TANH, x); }
Tensor erf(const Arg& x) { return math("erf", Op::ERF, x); }

namespace {

Tensor to_whole(Call call, Op op, const Arg& x) {
  LocationScope scope(x.where());
  const UOp v = front::value(x, call);
  front::check_real(v->dtype, call, x.where());
  return tensor(is_float(v->dtype) ? make(op, {v}) : v);
}

}  // namespace

Tensor floor(const Arg& x) { return to_whole("floor", Op::FLOOR, x); }
Tensor ceil(const Arg& x) { return to_whole("ceil", Op::CEIL, x); }

Tensor operator==(const Arg& a, const Arg& b) { return compare("==", Op::EQ, a, b); }
Tensor operator!=(const Arg& a, const Arg& b) { return compare("!=", Op::NE, a, b); }
Tensor operator<(const Arg& a, const Arg& b) { return compare("<", Op::LT, a, b); }
Tensor operator<=(const Arg& a, const Arg& b) { return compare("<=", Op::LE, a, b); }
Tensor operator>(const Arg& a, const Arg& b) { return compare(">", Op::LT, a, b, true); }
Tensor operator>=(const Arg& a, const Arg& b) { return compare(">=", Op::LE, a, b, true); }

Tensor operator&(const Arg& a, const Arg& b) { return binary("&", Op::AND, a, b, Rule::kOnlyBool); }
Tensor operator|(const Arg& a, const Arg& b) { return binary("|", Op::OR, a, b, Rule::kOnlyBool); }
Tensor operator!(const Arg& x) { return unary("!", Op::NOT, x, Rule::kOnlyBool); }
Tensor logical_and(const Arg& a, const Arg& b) {
  return binary("logical_and", Op::AND, a, b, Rule::kOnlyBool);
}
Tensor logical_or(const Arg& a, const Arg& b) { return binary("logical_or", Op::OR, a, b, Rule::kOnlyBool); }
Tensor logical_not(const Arg& x) { return unary("logical_not", Op::NOT, x, Rule::kOnlyBool); }

Tensor where(const Arg& condition, const Arg& then, const Arg& otherwise) {
  constexpr Call kCall = "where";
  LocationScope scope(condition.where());
  const UOp c = front::value(condition, kCall);
  if (c->dtype != DType::kBool)
    front::fail(kCall, "the condition is " + front::describe(c.get()) + ", needs bool", condition.where());
  const DType d = front::common_dtype({&then, &otherwise}, kCall);
  std::array<UOp, 3> v{c, operand(then, d, kCall), operand(otherwise, d, kCall)};
  front::broadcast(v, kCall, condition.where());
  return tensor(make(Op::WHERE, std::span<const UOp>(v)));
}

Tensor complex(const Arg& re, const Arg& im) {
  constexpr Call kCall = "complex";
  LocationScope scope(re.where());
  const DType d = operand_dtype(Rule::kFloats, {&re, &im}, kCall, re.where());
  front::check_real(d, kCall, re.where());
  std::array<UOp, 2> v{operand(re, d, kCall), operand(im, d, kCall)};
  front::broadcast(v, kCall, re.where());
  return tensor(complex_of(v[0], v[1]));
}
Tensor real(const Arg& z) {
  LocationScope scope(z.where());
  const UOp v = front::value(z, "real");
  return tensor(is_complex(v->dtype) ? real_part(v) : v);
}
Tensor imag(const Arg& z) {
  LocationScope scope(z.where());
  const UOp v = front::value(z, "imag");
  return tensor(is_complex(v->dtype) ? imag_part(v) : zeros_like(v));
}
Tensor conj(const Arg& z) {
  LocationScope scope(z.where());
  return tensor(tinyphys::conj(front::value(z, "conj")));
}
Tensor angle(const Arg& z) {
  LocationScope scope(z.where());
  UOp v = front::value(z, "angle");
  if (!is_complex(v->dtype)) v = cast(v, front::float_dtype(v->dtype));
  const bool real = !is_complex(v->dtype);
  return tensor(make(Op::ATAN2, {real ? zeros_like(v) : imag_part(v), real ? v : real_part(v)}));
}

Tensor Tensor::to(std::string_view device, Where where) const {
  LocationScope scope(where);
  const UOp x = front::value(*this, "to", where);
  const int number = device_number(device);
  if (number == 0)
    front::fail("to", "no device \"" + std::string(device) + "\"; there are: " + std::string(kDeviceNames),
                where);
  try {
    if (has_engine()) engine().find_device(device);
  } catch (const Error& e) {
    front::fail("to", e.message(), where);
  }
  if (x->flags & Node::kHasSym)
    front::fail("to",
                "the tensor is a variable that is being traced; a body runs on one device: move what it is "
                "called with",
                where);
  return tensor(copy_to(x, number));
}

std::string Tensor::device(Where where) const {
  const int number = front::value(*this, "device", where)->device();
  return std::string(number == 0 ? env::device() : device_name(number));
}

Tensor Tensor::astype(DType dtype, Where where) const {
  LocationScope scope(where);
  const UOp x = front::value(*this, "astype", where);
  if (item_size(dtype) == 0) front::fail("astype", "void is no element type", where);
  if (is_complex(x->dtype) && dtype == DType::kBool) return tensor(make(Op::NE, {x, zeros_like(x)}));
  if (is_complex(x->dtype) && !is_complex(dtype))
    front::fail("astype",
                std::string(name(x->dtype)) + " to " + std::string(name(dtype)) +
                    " would drop the imaginary part; write real(z).astype(...), or abs(z)",
                where);
  return tensor(cast(x, dtype));
}

}  // namespace tinyphys
