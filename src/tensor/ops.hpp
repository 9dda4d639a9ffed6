// What the functions of the front end share: checks of user input, promotion, broadcasting.
//
// `call` is the name of the user's call, for messages.
#pragma once

#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "tensor/access.hpp"
#include "tinyphys/tensor.hpp"
#include "uop/uop.hpp"

namespace tinyphys::front {

using Call = std::string_view;

[[noreturn]] void fail(Call call, const std::string& what, const Where& where);
// The same for a call that could not take its line, such as a formatter: the line where n was made stands for it.
[[noreturn]] void fail(Call call, const std::string& what, const Where& where, const Node* n);

// Fails where a and b were moved to two devices: for calls that are not one operation of the graph.
void check_devices(const UOp& a, const UOp& b, Call call, const Where& where);

std::string describe(const Node* n);  // "float64[3,4]"
std::string number_text(double v);
// The index of element `at` of an array of this shape, rows first: "[3,4]".
std::string point_text(std::span<const std::int64_t> shape, std::size_t at);
std::string shape_list(std::span<const UOp> values);  // "[3], [4] and [5]"

// The node of a tensor that the user gave; an empty one is an error.
UOp value(const Tensor& t, Call call, const Where& where);
// The same for an operand; a number becomes a 0-d constant of its own kind: complex128, float64, int64 or bool.
UOp value(const Arg& a, Call call);

// While one lives, it sees what this thread is about to compute, or read.
class ReadLog {
 public:
  using Seen = std::function<void(std::span<const UOp>)>;
  explicit ReadLog(Seen seen);
  ~ReadLog();
  ReadLog(const ReadLog&) = delete;
  ReadLog& operator=(const ReadLog&) = delete;
  static void note(std::span<const UOp> values);

 private:
  Seen seen_;
  ReadLog* outer_;
  static inline thread_local ReadLog* innermost_ = nullptr;
};

// Computes what has no value yet. An error of the run that knows no line gets this call's.
void compute(std::span<const UOp> values, Call call, const Where& where);
// Whether a value depends on an argument of a function that is being traced: there is no number to compute.
bool is_traced(const Node* n);
// Memory for a value.
StorageRef allocate(DType d, std::span<const std::int64_t> shape, Call call, const Where& where);

DType promote(DType a, DType b);
// Result dtype of an elementwise operation: tensors promote, then numbers raise the result by kind only.
DType common_dtype(std::initializer_list<const Arg*> args, Call call);
// The dtype in which math functions work: itself for floats and complex numbers, else float64.
DType float_dtype(DType d);
// Whether assignment may convert: not complex to float, not float to int, not int to bool.
bool same_kind(DType from, DType to);
// Throws for a complex operand of a function that has no meaning for it.
void check_real(DType d, Call call, const Where& where);

// Non-negative extents whose product fits.
void check_shape(std::span<const std::int64_t> shape, Call call, const Where& where);
// The axis counted from the front. `shape` is for the message and the rank.
std::int64_t axis_of(std::int64_t axis, std::span<const std::int64_t> shape, Call call, const Where& where);
// Ascending, each once.
Dims axes_of(const Axes& axes, std::span<const std::int64_t> shape, Call call, const Where& where);

// The elements first, first + step, ... that start:stop:step takes of an axis of n, by Python's rules.
struct Stride {
  std::int64_t first = 0, count = 0, step = 1;
};
Stride stride_of(std::int64_t start, std::int64_t stop, std::int64_t step, std::int64_t n, Call call,
                 const Where& where);

// The index operand of gather and the like: integers, not known to be out of range for the axis of x.
UOp index_value(Call call, const UOp& x, const Arg& index, std::int64_t axis);

// A relative error that may be allowed: above 0, at most 1.
void check_tolerance(double v, Call call, const Where& where);

// Makes the shapes of the values equal by NumPy's rules.
void broadcast(std::span<UOp> values, Call call, const Where& where);

}  // namespace tinyphys::front
