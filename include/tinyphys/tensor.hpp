// Lazy tensors: every function here records a graph and returns at once; item, to_vector, realize, allclose,
// save and printing run it.
//
// A Tensor is an immutable value behind one pointer. Copies share it; threads may use it freely.
//
// Shapes follow NumPy: operands broadcast, axes may be negative, a 0-d tensor has shape {}.
//
// Element types follow NumPy: bool < int32 < int64 < float32 < float64 < complex64 < complex128, except that an
// integer with a float32 gives float64, and an integer or a float64 with a complex64 gives complex128. C++ numbers are
// weakly typed: they take the tensor's dtype and raise it only by kind:
//   float32 * 0.5 -> float32    int64 * 2 -> int64    int64 * 0.5 -> float64    bool + 1 -> int64
//   float32 * std::complex(0.0, 1.0) -> complex64    complex64 * 0.5 -> complex64
// Division of integers is true division (float64). Math functions of integers give float64.
//
// Every mistake throws tp::Error at the call that made it: "[call] what, values, shapes (file:line)". Common
// to all: operands that do not broadcast, an axis out of range, an empty (default constructed) Tensor, a
// dtype that the function is not defined for.
#pragma once

#include <atomic>
#include <complex>
#include <concepts>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <iosfwd>
#include <limits>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "tinyphys/dtype.hpp"

namespace tinyphys {

struct Node;
class Arg;

using Shape = std::vector<std::int64_t>;
using Where = std::source_location;

// A Where that {} does not make: in from({1.0}, {}) the {} is the shape of a 0-d tensor.
struct CallSite {
  CallSite(Where w) : where(w) {}
  Where where;
};

// The end of an axis in slice(): past the last element, or before the first one when step < 0.
inline constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();

template <class T>
concept ComplexNumber = std::same_as<T, std::complex<float>> || std::same_as<T, std::complex<double>>;
// C++ numbers that an operand may be.
template <class T>
concept PlainNumber = std::is_arithmetic_v<T> || ComplexNumber<T>;
// C++ types that tensors hold.
template <class T>
concept Element = std::same_as<T, bool> || std::same_as<T, float> || std::same_as<T, double> ||
    ComplexNumber<T> ||(std::signed_integral<T> && (sizeof(T) == 4 || sizeof(T) == 8));

template <Element T> constexpr DType dtype_of() {
  if (std::same_as<T, bool>) return DType::kBool;
  if (std::same_as<T, float>) return DType::kFloat32;
  if (std::same_as<T, double>) return DType::kFloat64;
  if (std::same_as<T, std::complex<float>>) return DType::kComplex64;
  if (std::same_as<T, std::complex<double>>) return DType::kComplex128;
  return sizeof(T) == 4 ? DType::kInt32 : DType::kInt64;
}

// Which axes a function works on: all by default, one number, or a list. Negative ones count from the end.
class Axes {
 public:
  Axes() = default;
  template <std::integral T>
  requires(!std::same_as<T, bool>) Axes(T axis) : list_{static_cast<std::int64_t>(axis)}, all_(false) {}
  Axes(std::initializer_list<std::int64_t> axes) : list_(axes), all_(false) {}
  Axes(std::vector<std::int64_t> axes) : list_(std::move(axes)), all_(false) {}

  bool all() const { return all_; }
  const std::vector<std::int64_t>& list() const { return list_; }

 private:
  std::vector<std::int64_t> list_;
  bool all_ = true;
};

// Whether reduced axes stay, with extent 1. A bool and nothing else: x.sum(0, 1) is not the sum over two axes.
class KeepDims {
 public:
  template <std::same_as<bool> T> constexpr KeepDims(T keep) : keep_(keep) {}
  constexpr operator bool() const { return keep_; }

 private:
  bool keep_;
};

class Tensor {
 public:
  // Holds no value; any use of it but assignment is an error.
  Tensor() = default;
  // A number: 0-d, complex128, float64, int64 or bool.
  template <class T>
  requires PlainNumber<T> Tensor(T value, Where where = Where::current());
  template <Element T>
  Tensor(std::initializer_list<T>) = delete;  // a list of numbers: write Tensor::from({...})
  Tensor(const Tensor& o) : node_(o.node_) { retain(node_); }
  Tensor(Tensor&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {
    if (watched_.load(std::memory_order_relaxed)) moved(node_);
  }
  // A tensor that is named. What a function or x[i] returns is no place to write to: it would be lost at once.
  Tensor& operator=(Tensor o) & noexcept {
    std::swap(node_, o.node_);
    return *this;
  }
  Tensor& operator=(Tensor o) && = delete;  // for x[i] = v write x = set(x, i, v)
  ~Tensor() { release(node_); }

  // --- creation -----------------------------------------------------------------------------------------

  // Copies of the given values. A list of int literals becomes int64; a vector keeps its element type. Nested
  // lists must be rectangular. With a shape: the values in row-major order, exactly as many as it has
  // elements.
  template <Element T> static Tensor from(std::initializer_list<T> values, CallSite site = Where::current());
  template <Element T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape, Where where = Where::current());
  template <Element T>
  static Tensor from(std::initializer_list<std::initializer_list<T>> rows, CallSite site = Where::current());
  template <Element T>
  static Tensor from(std::initializer_list<std::initializer_list<std::initializer_list<T>>> planes,
                     CallSite site = Where::current());
  template <Element T> static Tensor from(const std::vector<T>& values, CallSite site = Where::current());
  template <Element T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Where where = Where::current());

  static Tensor zeros(const Shape& shape, DType dtype = DType::kFloat64, Where where = Where::current());
  static Tensor ones(const Shape& shape, DType dtype = DType::kFloat64, Where where = Where::current());
  // dtype kVoid: that of the value (complex128, float64, int64 or bool for C++ numbers). The value may be a 0-d tensor.
  static Tensor full(const Shape& shape, const Arg& value, DType dtype = DType::kVoid);
  // start, start + step, ... before stop. int64 when all numbers are integers, else float64, unless dtype
  // says otherwise. Throws when step is 0 or a number is not finite.
  static Tensor arange(const Arg& stop, DType dtype = DType::kVoid);
  static Tensor arange(const Arg& start, const Arg& stop, DType dtype = DType::kVoid);
  static Tensor arange(const Arg& start, const Arg& stop, const Arg& step, DType dtype = DType::kVoid);
  // n evenly spaced values; the first is start and the last is stop exactly.
  static Tensor linspace(const Arg& start, const Arg& stop, std::int64_t n, DType dtype = DType::kFloat64);
  // [n, m] with ones on the main diagonal; m < 0: square.
  static Tensor eye(std::int64_t n, std::int64_t m = -1, DType dtype = DType::kFloat64,
                    Where where = Where::current());

  // --- random numbers -------------------------------------------------------------------------------------
  // Lazy, by the counter-based Philox4x32-10 (Salmon et al. 2011): element k in row-major order is a function of the
  // seed and k alone, with the same bits on every device, in every process and for every number of threads; a larger
  // tensor of the same seed begins with the elements of a smaller one. The three functions draw independent numbers
  // from one seed. The seed is an integer, or an integer scalar tensor (in a scan: seed + i).

  // Uniform in [0, 1): multiples of 2^-53 (float32: 2^-24).
  static Tensor rand(const Shape& shape, const Arg& seed, DType dtype = DType::kFloat64);
  // Standard normal, by Box and Muller's transform; |x| < 8.6. float32 is the float64 number rounded.
  static Tensor randn(const Shape& shape, const Arg& seed, DType dtype = DType::kFloat64);
  // Uniform integers, low <= x < high; some are likelier than others by (high - low) / 2^63 at most. int64 or int32.
  static Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, const Arg& seed,
                        DType dtype = DType::kInt64);

  // --- what it is ---------------------------------------------------------------------------------------

  Shape shape(Where where = Where::current()) const;
  // Extent of one axis.
  std::int64_t dim(std::int64_t axis, Where where = Where::current()) const;
  DType dtype(Where where = Where::current()) const;
  std::int64_t ndim(Where where = Where::current()) const;
  std::int64_t size(Where where = Where::current()) const;

  // --- values (these run the graph) ---------------------------------------------------------------------

  // Computes the value now; returns the same tensor.
  Tensor realize(Where where = Where::current()) const;
  // The only element. T must be the C++ type of the dtype; nothing is converted.
  template <Element T> T item(Where where = Where::current()) const;
  // All elements in row-major order. T as in item.
  template <Element T> std::vector<T> to_vector(Where where = Where::current()) const;
  // A realized copy with its own memory and no history: gradients do not flow through it.
  Tensor clone(Where where = Where::current()) const;

  // --- device -------------------------------------------------------------------------------------------

  // The same value on a device, by its name ("cpu", "interp"): what is computed from it runs there. A tensor that was moved
  // nowhere goes where the others of an operation are, and if they all do, to the device of TINYPHYS_DEVICE; two that were
  // moved to different devices meet in no operation (tp::Error at that call). Gradients flow back through the move. Throws
  // tp::Error for an unknown name, and inside a function that is traced.
  Tensor to(std::string_view device, Where where = Where::current()) const;
  // Where it was moved, or the device of TINYPHYS_DEVICE.
  std::string device(Where where = Where::current()) const;

  // --- element type -------------------------------------------------------------------------------------

  // Floats to integers: towards zero, saturating, NaN to 0. To bool: x != 0. Complex to real is an error: real() says
  // what is meant.
  Tensor astype(DType dtype, Where where = Where::current()) const;

  // --- the same elements in other places ----------------------------------------------------------------

  // Row-major order is kept. One extent may be -1: it follows from the others.
  Tensor reshape(const Shape& shape, Where where = Where::current()) const;
  Tensor flatten(Where where = Where::current()) const;
  // Axis i of the result is axis axes[i] of this.
  Tensor permute(const std::vector<std::int64_t>& axes, Where where = Where::current()) const;
  // All axes reversed, or two of them exchanged.
  Tensor transpose(Where where = Where::current()) const;
  Tensor transpose(std::int64_t axis_a, std::int64_t axis_b, Where where = Where::current()) const;
  // Broadcast to a shape, as numpy.broadcast_to.
  Tensor expand(const Shape& shape, Where where = Where::current()) const;
  // Elements in reverse order along the axes.
  Tensor flip(const Axes& axes = {}, Where where = Where::current()) const;
  // out[i] = in[(i - shift) mod n] along the axis.
  Tensor roll(std::int64_t shift, std::int64_t axis, Where where = Where::current()) const;
  // start:stop:step along the axis with NumPy's clipping; negative positions count from the end. step != 0.
  Tensor slice(std::int64_t axis, std::int64_t start, std::int64_t stop = kEnd, std::int64_t step = 1,
               Where where = Where::current()) const;
  // One position of an axis, which is dropped. Throws when it is out of range.
  Tensor select(std::int64_t axis, std::int64_t index, Where where = Where::current()) const;
  // An integer: select(0, i). An integer tensor: gather along axis 0.
  Tensor operator[](const Arg& index) const;
  // A new tensor: this with value at the places of slice(axis, start, stop, step). value broadcasts to the shape of
  // that slice and takes this dtype, as in set().
  Tensor slice_set(std::int64_t axis, std::int64_t start, std::int64_t stop, const Arg& value,
                   std::int64_t step = 1) const;
  // A pair {before, after} per axis, both >= 0; the new elements are 0, or fill.
  using Padding = std::vector<std::pair<std::int64_t, std::int64_t>>;
  Tensor pad(const Padding& widths, Where where = Where::current()) const;
  Tensor pad(const Padding& widths, const Arg& fill) const;
  // Equal parts along the axis; the extent must be divisible. split_sizes: parts of the given sizes.
  std::vector<Tensor> split(std::int64_t parts, std::int64_t axis = 0, Where where = Where::current()) const;
  std::vector<Tensor> split_sizes(const std::vector<std::int64_t>& sizes, std::int64_t axis = 0,
                                  Where where = Where::current()) const;
  // Drops axes of extent 1: all of them, or those named (an error when one is longer).
  Tensor squeeze(const Axes& axes = {}, Where where = Where::current()) const;
  // A new axis of extent 1 that becomes axis `axis` of the result.
  Tensor unsqueeze(std::int64_t axis, Where where = Where::current()) const;

  // --- reductions ---------------------------------------------------------------------------------------
  // keepdims leaves reduced axes with extent 1. Sums and products of bool and int32 are int64.

  Tensor sum(const Axes& axes = {}, KeepDims keepdims = false,
             Where where = Where::current()) const;  // of none: 0
  Tensor prod(const Axes& axes = {}, KeepDims keepdims = false,
              Where where = Where::current()) const;  // of none: 1
  // float64 for integers; of none: NaN.
  Tensor mean(const Axes& axes = {}, KeepDims keepdims = false, Where where = Where::current()) const;
  // NaN when any element is NaN. Of none: an error.
  Tensor max(const Axes& axes = {}, KeepDims keepdims = false, Where where = Where::current()) const;
  Tensor min(const Axes& axes = {}, KeepDims keepdims = false, Where where = Where::current()) const;
  // Square root of the sum of squares, |z|^2 of complex numbers. Real.
  Tensor norm(const Axes& axes = {}, KeepDims keepdims = false, Where where = Where::current()) const;
  // Of bool tensors only.
  Tensor any(const Axes& axes = {}, KeepDims keepdims = false, Where where = Where::current()) const;
  Tensor all(const Axes& axes = {}, KeepDims keepdims = false, Where where = Where::current()) const;
  // Running sum along the axis.
  Tensor cumsum(std::int64_t axis, Where where = Where::current()) const;

  // --- x += y means x = x + y; shape stays, dtype stays (a float may become a narrower float) ------------

  Tensor& operator+=(const Arg& b) &;
  Tensor& operator-=(const Arg& b) &;
  Tensor& operator*=(const Arg& b) &;
  Tensor& operator/=(const Arg& b) &;
  Tensor& operator+=(const Arg& b) && = delete;  // for x[i] += v write x = set(x, i, x[i] + v)
  Tensor& operator-=(const Arg& b) && = delete;
  Tensor& operator*=(const Arg& b) && = delete;
  Tensor& operator/=(const Arg& b) && = delete;

 private:
  friend struct TensorAccess;
  explicit Tensor(Node* owned) : node_(owned) {}
  static void retain(Node* n);
  static void release(Node* n) noexcept;
  // A handle of n is another one now; asked once a jit watches handles (jit.hpp).
  static void moved(const Node* n) noexcept;
  static inline std::atomic<bool> watched_{false};
  // A buffer with a copy of `count` values of this dtype.
  static Tensor from_memory(const void* values, std::size_t count, DType dtype, const Shape& shape,
                            Where where);
  template <Element T>
  static Tensor from_values(const std::vector<T>& values, const Shape& shape, Where where);
  template <Element T>
  static Tensor from_literals(const std::vector<T>& values, const Shape& shape, Where where);
  [[noreturn]] static void ragged(Where where);
  // There is no memory for a std::vector of the elements.
  [[noreturn]] void no_room(Where where) const;
  // Copies the realized elements; only_one: there must be exactly one.
  void read(void* to, DType dtype, bool only_one, Where where) const;

  Node* node_ = nullptr;
};

// An operand: a Tensor or any C++ number, with the line where it was given. Made implicitly; write operand
// types of your own functions as Tensor or Arg. Throws for an unsigned number above the int64 range.
class Arg {
 public:
  enum class Kind : std::uint8_t { kTensor, kBool, kInteger, kReal, kComplex };

  Arg(const Tensor& t, Where where = Where::current()) : tensor_(t), where_(where) {}
  Arg(Tensor&& t, Where where = Where::current()) : tensor_(std::move(t)), where_(where) {}
  template <class T>
  requires PlainNumber<T> Arg(T value, Where where = Where::current()) : where_(where) {
    if constexpr (ComplexNumber<T>) {
      kind_ = Kind::kComplex;
      real_ = static_cast<double>(value.real());
      imag_ = static_cast<double>(value.imag());
    } else if constexpr (std::is_floating_point_v<T>) {
      kind_ = Kind::kReal;
      real_ = static_cast<double>(value);
    } else {
      kind_ = std::same_as<T, bool> ? Kind::kBool : Kind::kInteger;
      integer_ = static_cast<std::int64_t>(value);
      if constexpr (std::unsigned_integral<T> && sizeof(T) == 8)
        if (integer_ < 0) too_large(value, where);
    }
  }

  Kind kind() const { return kind_; }
  bool is_number() const { return kind_ != Kind::kTensor; }
  const Tensor& tensor() const { return tensor_; }
  // Of kComplex the real part.
  double as_double() const {
    return kind_ == Kind::kReal || kind_ == Kind::kComplex ? real_ : static_cast<double>(integer_);
  }
  double imag() const { return imag_; }             // 0 for all but kComplex
  std::int64_t as_int() const { return integer_; }  // of kBool and kInteger
  const Where& where() const { return where_; }

 private:
  [[noreturn]] static void too_large(std::uint64_t value, Where where);

  Tensor tensor_;
  Kind kind_ = Kind::kTensor;
  union {
    double real_;
    std::int64_t integer_ = 0;
  };
  double imag_ = 0;
  Where where_;
};

// What set() writes to: a position along axis 0; a list of positions, one for each of the leading axes ({} is all of
// the tensor); or an integer tensor of positions along axis 0. Negative ones count from the end.
class Position {
 public:
  template <std::integral T>
  requires(!std::same_as<T, bool>) Position(T index) : list_{static_cast<std::int64_t>(index)} {}
  Position(std::initializer_list<std::int64_t> leading) : list_(leading) {}
  Position(std::vector<std::int64_t> leading) : list_(std::move(leading)) {}
  Position(Tensor indices) : indices_(std::move(indices)), is_tensor_(true) {}

  bool is_tensor() const { return is_tensor_; }
  const Tensor& indices() const { return indices_; }
  const std::vector<std::int64_t>& list() const { return list_; }

 private:
  std::vector<std::int64_t> list_;
  Tensor indices_;
  bool is_tensor_ = false;
};

// The operand as a tensor; a number becomes 0-d: complex128, float64, int64 or bool.
Tensor as_tensor(const Arg& value);
Tensor zeros_like(const Arg& x);
Tensor ones_like(const Arg& x);
// Shape and dtype of x.
Tensor full_like(const Arg& x, const Arg& value);

// --- complex numbers --------------------------------------------------------------------------------------
// complex128 and complex64 are pairs (re, im) of float64 and float32. Arithmetic, ==, !=, sqrt, rsqrt, exp, log, sin, cos, tan,
// sinh, cosh, tanh, pow, square, abs, where, all movement, sum, mean, prod, norm, cumsum, matmul, dot, gather, scatter_add and set
// take them; what has no meaning for them (<, %, max, floor, erf, ...) is an error. * and / by a real operand act on the two
// parts, as in C++: z * x is (re x, im x), where NumPy multiplies by (x, 0); they differ where a part is infinite, NaN or -0.
// Elsewhere a real operand x is (x, +0).
// Branch cuts and the signs of zeros on them are C99's and NumPy's: sqrt, log, angle and pow are cut along the negative
// real axis, and the sign of a zero imaginary part says on which side a number lies. Where an operand has an infinite or NaN
// part the results are those of the formulas and not of C99's Annex G: see docs/complex.md. complex64 is computed in
// float64 and rounded once wherever a function is more than +, -, and *.

// re + i im, of two real operands: complex64 of float32 and numbers, else complex128.
Tensor complex(const Arg& re, const Arg& im);
// The parts; of a real operand itself, and zeros.
Tensor real(const Arg& z);
Tensor imag(const Arg& z);
Tensor conj(const Arg& z);  // of a real operand itself
// atan2(im, re), in (-pi, pi].
Tensor angle(const Arg& z);

// --- elementwise arithmetic (bool: + is or, * is and, - is an error) --------------------------------------

Tensor operator+(const Arg& a, const Arg& b);
Tensor operator-(const Arg& a, const Arg& b);
Tensor operator*(const Arg& a, const Arg& b);
// Complex: by Smith's method, scaled as Baudin and Smith do (2012, arXiv:1210.4539): nothing overflows or underflows on the
// way to a quotient that does not.
Tensor operator/(const Arg& a, const Arg& b);
// Remainder with the sign of the divisor, as NumPy. Integers: 0 when the divisor is 0.
Tensor operator%(const Arg& a, const Arg& b);
Tensor operator-(const Arg& x);
// Integers to an integer power stay integers and wrap; a negative constant power of integers is an error. Complex: by
// multiplications for a C++ whole number up to 64, else exp(e log(z)); 0^0 is 1, 0^e is 0 where Re e > 0 and NaN elsewhere.
Tensor pow(const Arg& base, const Arg& exponent);
Tensor square(const Arg& x);
// Of complex numbers sqrt(re^2 + im^2), scaled as hypot: it overflows only where the result does; of an infinite part inf.
// Its derivative at 0 is 0.
Tensor abs(const Arg& x);
// -1, 0, 1; NaN for NaN.
Tensor sign(const Arg& x);
// NaN if either is NaN.
Tensor maximum(const Arg& a, const Arg& b);
Tensor minimum(const Arg& a, const Arg& b);
// a * b + c with one rounding.
Tensor fma(const Arg& a, const Arg& b, const Arg& c);

// --- elementwise math; integers become float64 ------------------------------------------------------------

Tensor sqrt(const Arg& x);
Tensor rsqrt(const Arg& x);  // 1 / sqrt(x)
Tensor exp(const Arg& x);
Tensor expm1(const Arg& x);
Tensor log(const Arg& x);
Tensor log1p(const Arg& x);
Tensor sin(const Arg& x);
Tensor cos(const Arg& x);
Tensor tan(const Arg& x);
Tensor asin(const Arg& x);
Tensor acos(const Arg& x);
Tensor atan(const Arg& x);
Tensor atan2(const Arg& y, const Arg& x);
Tensor sinh(const Arg& x);
Tensor cosh(const Arg& x);
Tensor tanh(const Arg& x);
Tensor erf(const Arg& x);
Tensor floor(const Arg& x);  // integers: unchanged
Tensor ceil(const Arg& x);   // integers: unchanged

// --- comparisons and logic: bool tensors ------------------------------------------------------------------

// == and != take complex numbers; the others throw for them: complex numbers have no order.
Tensor operator==(const Arg& a, const Arg& b);
Tensor operator!=(const Arg& a, const Arg& b);
Tensor operator<(const Arg& a, const Arg& b);
Tensor operator<=(const Arg& a, const Arg& b);
Tensor operator>(const Arg& a, const Arg& b);
Tensor operator>=(const Arg& a, const Arg& b);
// Of bool operands only.
Tensor operator&(const Arg& a, const Arg& b);
Tensor operator|(const Arg& a, const Arg& b);
Tensor operator!(const Arg& x);
Tensor logical_and(const Arg& a, const Arg& b);
Tensor logical_or(const Arg& a, const Arg& b);
Tensor logical_not(const Arg& x);
// condition is bool; the three broadcast together.
Tensor where(const Arg& condition, const Arg& then, const Arg& otherwise);

// --- several tensors --------------------------------------------------------------------------------------

// Joined along an existing axis; the other extents are equal; dtypes are promoted.
Tensor cat(const std::vector<Tensor>& parts, std::int64_t axis = 0, Where where = Where::current());
// Joined along a new axis; equal shapes.
Tensor stack(const std::vector<Tensor>& parts, std::int64_t axis = 0, Where where = Where::current());
// numpy.matmul: [m,k] x [k,n]; leading axes are batches and broadcast; a 1-D operand is a row on the left, a
// column on the right, and its axis is dropped. Not for 0-d operands or bool.
Tensor matmul(const Arg& a, const Arg& b);
// matmul for up to two axes each; the product when one operand is 0-d.
Tensor dot(const Arg& a, const Arg& b);
// numpy.take: x.shape[:axis] + index.shape + x.shape[axis+1:]. Negative indices count from the end. An index
// out of range is an error when the value is computed.
Tensor gather(const Arg& x, const Arg& index, std::int64_t axis = 0);
// base with values added at the positions that gather(base, index, axis) reads; repeated indices add up.
// values broadcasts to that shape and takes base's dtype.
Tensor scatter_add(const Arg& base, const Arg& index, const Arg& values, std::int64_t axis = 0);
// A new tensor: x with value at a position, as x[at] = value in NumPy; x itself stays as it is. value broadcasts to
// what stands there, x.shape without the leading axes that are named (an index tensor: index.shape + x.shape[1:]),
// and takes x's dtype (not float to integer, not integer to bool). Derivatives go to value, and to x where it was
// kept. Of an index that occurs twice the last one counts. Throws for a position out of range: at once, or, for an
// index tensor, when the value is computed. By a mask of bools: where(mask, value, x).
Tensor set(const Tensor& x, const Position& at, const Arg& value);

// --- values -----------------------------------------------------------------------------------------------

// Computes them together, sharing work.
void realize(const std::vector<Tensor>& tensors, Where where = Where::current());
// |a - b| <= atol + rtol |b| everywhere; equal infinities are close. Broadcasts.
bool allclose(const Arg& a, const Arg& b, double rtol = 1e-5, double atol = 1e-8, bool equal_nan = false);

// Files, by the end of the name: NumPy's .npy, little endian, of bool, int32, int64, float32, float64, complex64 and
// complex128; load takes
// format versions 1 to 3 and both element orders. .csv, of one or two axes: a row a line, no header, with digits enough
// to read back the same number; load skips empty lines and lines that begin with #, and gives float64: [rows, columns],
// or [rows] when there is one column. save writes a temporary file beside the target and renames it. Both throw on any
// file error and for other names.
void save(const std::string& path, const Arg& x);
Tensor load(const std::string& path, Where where = Where::current());

// The elements as NumPy prints them; beyond 1000 elements only the corners. spec: each element by a format of fmt's
// ("8.3f"), aligned. Throws for a format of integers and a tensor of floats.
std::string to_string(const Arg& x, std::string_view spec = {});
std::string to_string(const Shape& shape);  // "[3,4]"
// A Tensor; an Arg so that an error has the line.
std::ostream& operator<<(std::ostream& out, const Arg& x);

// --- implementation of the templates ----------------------------------------------------------------------

template <class T>
requires PlainNumber<T> Tensor::Tensor(T value, Where where) : Tensor(as_tensor(Arg(value, where))) {}

template <Element T>
Tensor Tensor::from_values(const std::vector<T>& values, const Shape& shape, Where where) {
  if constexpr (std::same_as<T, bool>) {
    const std::vector<unsigned char> bytes(values.begin(), values.end());
    return from_memory(bytes.data(), bytes.size(), DType::kBool, shape, where);
  } else {
    return from_memory(values.data(), values.size(), dtype_of<T>(), shape, where);
  }
}

template <Element T>
Tensor Tensor::from_literals(const std::vector<T>& values, const Shape& shape, Where where) {
  if constexpr (std::same_as<T, int>)
    return from_values(std::vector<std::int64_t>(values.begin(), values.end()), shape, where);
  else
    return from_values(values, shape, where);
}

template <Element T> Tensor Tensor::from(std::initializer_list<T> values, CallSite site) {
  return from_literals(std::vector<T>(values), {static_cast<std::int64_t>(values.size())}, site.where);
}
template <Element T> Tensor Tensor::from(std::initializer_list<T> values, const Shape& shape, Where where) {
  return from_literals(std::vector<T>(values), shape, where);
}
template <Element T>
Tensor Tensor::from(std::initializer_list<std::initializer_list<T>> rows, CallSite site) {
  const std::size_t n = rows.size() ? rows.begin()->size() : 0;
  std::vector<T> flat;
  for (const auto& row : rows) {
    if (row.size() != n) ragged(site.where);
    flat.insert(flat.end(), row.begin(), row.end());
  }
  return from_literals(flat, {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(n)},
                       site.where);
}
template <Element T>
Tensor Tensor::from(std::initializer_list<std::initializer_list<std::initializer_list<T>>> planes,
                    CallSite site) {
  const std::size_t rows = planes.size() ? planes.begin()->size() : 0;
  const std::size_t n = rows ? planes.begin()->begin()->size() : 0;
  std::vector<T> flat;
  for (const auto& plane : planes) {
    if (plane.size() != rows) ragged(site.where);
    for (const auto& row : plane) {
      if (row.size() != n) ragged(site.where);
      flat.insert(flat.end(), row.begin(), row.end());
    }
  }
  return from_literals(flat,
                       {static_cast<std::int64_t>(planes.size()), static_cast<std::int64_t>(rows),
                        static_cast<std::int64_t>(n)},
                       site.where);
}
template <Element T> Tensor Tensor::from(const std::vector<T>& values, CallSite site) {
  return from_values(values, {static_cast<std::int64_t>(values.size())}, site.where);
}
template <Element T> Tensor Tensor::from(const std::vector<T>& values, const Shape& shape, Where where) {
  return from_values(values, shape, where);
}

template <Element T> T Tensor::item(Where where) const {
  if constexpr (std::same_as<T, bool>) {
    unsigned char byte = 0;
    read(&byte, DType::kBool, true, where);
    return byte != 0;
  } else {
    T value{};
    read(&value, dtype_of<T>(), true, where);
    return value;
  }
}

template <Element T> std::vector<T> Tensor::to_vector(Where where) const {
  const auto n = static_cast<std::size_t>(size(where));
  const auto with_room = [&]<class V>(V values) {
    try {
      values.resize(n);
    } catch (const std::exception&) {  // bad_alloc, length_error
      no_room(where);
    }
    return values;
  };
  if constexpr (std::same_as<T, bool>) {
    auto bytes = with_room(std::vector<unsigned char>());
    read(bytes.data(), DType::kBool, false, where);
    return std::vector<bool>(bytes.begin(), bytes.end());
  } else {
    auto values = with_room(std::vector<T>());
    read(values.data(), dtype_of<T>(), false, where);
    return values;
  }
}

}  // namespace tinyphys
