// The expected texts are those of NumPy 1.24's str().
#include <limits>
#include <sstream>

#include <fmt/format.h>

#include "test_tensor_helpers.hpp"
#include "tinyphys/fmt.hpp"

namespace tinyphys::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("tensor print: scalars") {
  CHECK(to_string(1.0) == "1.0");
  CHECK(to_string(0.1) == "0.1");
  CHECK(to_string(-1e16) == "-1e+16");
  CHECK(to_string(1.5e-5) == "1.5e-05");
  CHECK(to_string(1234567890.0) == "1234567890.0");
  CHECK(to_string(-0.0) == "-0.0");
  CHECK(to_string(kNan) == "nan");
  CHECK(to_string(-kInf) == "-inf");
  CHECK(to_string(42) == "42");
  CHECK(to_string(true) == "True");
  CHECK(to_string(Tensor::full({}, 123456789, DType::kFloat32)) == "123456790.0");
}

TEST_CASE("tensor print: rows") {
  CHECK(to_string(Tensor::from({1.0, 2.0, 3.0})) == "[1. 2. 3.]");
  CHECK(to_string(Tensor::from({1.5, -2.25})) == "[ 1.5  -2.25]");
  CHECK(to_string(Tensor::from({1.0 / 3, 2.0})) == "[0.33333333 2.        ]");
  CHECK(to_string(Tensor::from({1e10, 1.5})) == "[1.0e+10 1.5e+00]");
  CHECK(to_string(Tensor::from({1e-5, 1.0})) == "[1.e-05 1.e+00]");
  CHECK(to_string(Tensor::from({1e100, 1.0})) == "[1.e+100 1.e+000]");
  CHECK(to_string(Tensor::from({1.0, kNan, -kInf})) == "[  1.  nan -inf]");
  CHECK(to_string(Tensor::from({kNan, kInf})) == "[nan inf]");
  CHECK(to_string(Tensor::from({0.1f, 0.2f})) == "[0.1 0.2]");
  CHECK(to_string(Tensor::from({1, -20, 300})) == "[  1 -20 300]");
  CHECK(to_string(Tensor::from({true, false})) == "[ True False]");
  CHECK(to_string(Tensor::zeros({0, 3})) == "[]");
}

TEST_CASE("tensor print: more axes, long rows, corners") {
  CHECK(to_string(counting({2, 2})) == "[[0. 1.]\n [2. 3.]]");
  CHECK(to_string(Tensor::arange(8).reshape({2, 2, 2})) == "[[[0 1]\n  [2 3]]\n\n [[4 5]\n  [6 7]]]");
  CHECK(to_string(Tensor::arange(30)) ==
        "[ 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23\n 24 25 26 27 28 29]");
  CHECK(to_string(Tensor::arange(1001)) == "[   0    1    2 ...  998  999 1000]");
  CHECK(to_string(Tensor::arange(2000, DType::kFloat64)) ==
        "[0.000e+00 1.000e+00 2.000e+00 ... 1.997e+03 1.998e+03 1.999e+03]");
  CHECK(to_string(Tensor::zeros({2, 600})) == "[[0. 0. 0. ... 0. 0. 0.]\n [0. 0. 0. ... 0. 0. 0.]]");
  CHECK(to_string(Tensor::ones({600, 2}, DType::kInt64)) ==
        "[[1 1]\n [1 1]\n [1 1]\n ...\n [1 1]\n [1 1]\n [1 1]]");
}

TEST_CASE("tensor print: streams and fmt") {
  const Tensor x = Tensor::from({1.0, 2.0}) * 2.0;
  std::ostringstream out;
  out << x;
  CHECK(out.str() == "[2. 4.]");
  CHECK(fmt::format("{} {:>9}", x, x) == "[2. 4.]   [2. 4.]");
}

TEST_CASE("tensor print: a format of numbers is that of each element") {
  const Tensor x = Tensor::from({{1.0, -22.25}, {0.5, 1e3}});
  CHECK(fmt::format("{:.2f}", x) == "[[   1.00  -22.25]\n [   0.50 1000.00]]");
  CHECK(fmt::format("{:9.1e}", x) == "[[  1.0e+00  -2.2e+01]\n [  5.0e-01   1.0e+03]]");
  CHECK(fmt::format("{:+.0f}", x[0]) == "[ +1 -22]");
  CHECK(fmt::format("{:<7.2f}|", x[0]) == "[1.00    -22.25 ]|");
  CHECK(fmt::format("{:.3}", Tensor::from(std::vector<float>{1.0f / 3})) == "[0.333]");
  CHECK(fmt::format("{:.1f}", Tensor::from({std::nan(""), -std::numeric_limits<double>::infinity()})) ==
        "[ nan -inf]");
  CHECK(fmt::format("{:.3f}", Tensor(2)) == "2.000");
  CHECK(fmt::format("{:d} {:03d} {:x}", Tensor(12), Tensor::from({7, 42}), Tensor(255)) == "12 [007 042] ff");
  CHECK(fmt::format("{:d} {:.1f}", Tensor(true), Tensor::from({true, false})) == "1 [1.0 0.0]");
  CHECK(fmt::format("{:.3f}", Tensor::zeros({0})) == "[]");
  CHECK(fmt::format("{:>8s}|{:^8}|{:>{}}", x[0][0], x[0][0], x[0][0], 5) == "     1.0|  1.0   |  1.0");
  CHECK(to_string(x[0], "6.1f") == "[   1.0  -22.2]");
  CHECK(fmt::format(fmt::runtime("{:.2f}"), x[0]) == "[  1.00 -22.25]");
  CHECK_THROWS_AS((void)fmt::format(fmt::runtime("{:.{}f}"), x, 2), fmt::format_error);
  CHECK_THROWS_AS((void)fmt::format(fmt::runtime("{:q}"), x), fmt::format_error);
  CHECK(message([&] { to_string(x, "d"); }) ==
        error_at("[format] \"{:d}\" is a format of integers, the tensor is float64[2,2]"));
}

TEST_CASE("tensor print: dtypes and shapes") {
  std::ostringstream out;
  out << DType::kFloat32 << ' ' << Tensor::zeros({2}).dtype();
  CHECK(out.str() == "float32 float64");
  CHECK(fmt::format("{} {:>6}", DType::kBool, DType::kInt32) == "bool  int32");
  CHECK(fmt::format("{}", Tensor::zeros({2, 3}).shape()) == "[2, 3]");
  CHECK(to_string(Tensor::zeros({2, 3}).shape()) == "[2,3]");
}

}  // namespace tinyphys::testing
