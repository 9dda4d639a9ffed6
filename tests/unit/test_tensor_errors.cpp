// Each mistake is reported with the call, the values and the line of this file.
#include <limits>

#include "test_tensor_helpers.hpp"

namespace tinyphys::testing {

TEST_CASE("tensor errors: shapes") {
  const Tensor a = counting({3, 4}), b = counting({5, 2}), v = counting({3});
  CHECK(message([&] { matmul(a, b); }) == error_at("[matmul] shapes [3,4] and [5,2] do not contract"));
  CHECK(message([&] { matmul(a, v); }) == error_at("[matmul] shapes [3,4] and [3] do not contract"));
  CHECK(message([&] { dot(v, b); }) == error_at("[dot] shapes [3] and [5,2] do not contract"));
  CHECK(message([&] { matmul(a, 2.0); }) ==
        error_at("[matmul] shapes [3,4] and []: 0-d operands have no axis to contract; use *"));
  CHECK(message([&] {
          matmul(counting({2, 3, 4}), counting({3, 4, 2}));
        }) == error_at("[matmul] leading axes of shapes [2,3,4] and [3,4,2] do not broadcast"));
  CHECK(message([&] {
          dot(counting({1, 1, 1}), v);
        }) == error_at("[dot] shapes [1,1,1] and [3]: more than two axes; use matmul"));
  CHECK(message([&] { a + b; }) == error_at("[+] shapes [3,4] and [5,2] do not broadcast"));
  CHECK(message([&] { (void)(a < v); }) == error_at("[<] shapes [3,4] and [3] do not broadcast"));
  CHECK(message([&] { (void)(a > v); }) == error_at("[>] shapes [3,4] and [3] do not broadcast"));
  CHECK(message([&] { fma(a, 1.0, v); }) == error_at("[fma] shapes [3,4], [] and [3] do not broadcast"));
  CHECK(message([&] { where(v > 1.0, a, 0.0); }) ==
        error_at("[where] shapes [3], [3,4] and [] do not broadcast"));
  CHECK(message([&] { counting({0}) + counting({2}); }) ==
        error_at("[+] shapes [0] and [2] do not broadcast"));
  CHECK(message([&] {
          a.reshape({5, 2});
        }) == error_at("[reshape] shape [3,4] of 12 elements does not fit [5,2]"));
  CHECK(message([&] {
          a.reshape({-1, 5});
        }) == error_at("[reshape] shape [3,4] of 12 elements does not fit [-1,5]"));
  CHECK(message([&] { a.reshape({-1, -1}); }) == error_at("[reshape] more than one -1 in [-1,-1]"));
  CHECK(message([&] {
          Tensor::zeros({0}).reshape({-1, 0});
        }) == error_at("[reshape] shape [0] of 0 elements does not fit [-1,0]"));
  CHECK(message([&] { a.expand({4, 4}); }) == error_at("[expand] shape [3,4] does not expand to [4,4]"));
  CHECK(message([&] { a.expand({4}); }) == error_at("[expand] shape [3,4] does not expand to [4]"));
  CHECK(message([&] {
          cat({a, b}, 0);
        }) == error_at("[cat] shapes [3,4] and [5,2] do not join along axis 0"));
  CHECK(message([&] { cat({}); }) == error_at("[cat] needs at least one tensor"));
  CHECK(message([&] { stack({a, b}); }) == error_at("[stack] shapes [3,4] and [5,2] differ"));
  CHECK(message([&] { a.split(3, 1); }) ==
        error_at("[split] axis 1 of shape [3,4] does not split into 3 equal parts"));
  CHECK(message([&] { a.split(0); }) ==
        error_at("[split] axis 0 of shape [3,4] does not split into 0 equal parts"));
  CHECK(message([&] {
          a.split_sizes({1, 1});
        }) == error_at("[split_sizes] sizes [1,1] do not add up to axis 0 of shape [3,4]"));
  CHECK(message([&] { a.pad({{1, 1}}); }) == error_at("[pad] 1 pairs of widths for shape [3,4]"));
  CHECK(message([&] { v.pad({{1, -1}}); }) == error_at("[pad] negative width {1,-1}"));
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const std::string most = "[pad] shape [" + std::to_string(kMost) + "] has too many elements";
  CHECK(message([&] { v.pad({{0, kMost}}); }) == error_at(most));
  CHECK(message([&] { v.pad({{kMost, kMost}}); }) == error_at(most));
  CHECK(message([&] { a.squeeze(1); }) == error_at("[squeeze] axis 1 of shape [3,4] is not 1"));
  CHECK(message([&] {
          scatter_add(v, Tensor::from({0, 1}), v);
        }) == error_at("[scatter_add] values of shape [3] do not broadcast to [2]"));
  CHECK(message([&] { allclose(a, v); }) == error_at("[allclose] shapes [3,4] and [3] do not broadcast"));
  Tensor x = v;
  CHECK(message([&] {
          x += counting({2, 3});
        }) == error_at("[+=] the result [2,3] does not fit the left side [3]"));
  CHECK(message([&] { x *= a; }) == error_at("[*=] shapes [3] and [3,4] do not broadcast"));
}

TEST_CASE("tensor errors: axes and indices") {
  const Tensor a = counting({3, 4});
  CHECK(message([&] { a.sum(2); }) == error_at("[sum] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] { a.max({0, -2}); }) == error_at("[max] axis 0 is given twice for shape [3,4]"));
  CHECK(message([&] { a.mean(-3); }) == error_at("[mean] axis -3 is out of range for shape [3,4]"));
  CHECK(message([&] { a.cumsum(2); }) == error_at("[cumsum] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] { a.flip(2); }) == error_at("[flip] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] { a.roll(1, 2); }) == error_at("[roll] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] {
          a.permute({0, 0});
        }) == error_at("[permute] axes [0,0] are no order of the axes of shape [3,4]"));
  CHECK(message([&] { a.permute({0}); }) ==
        error_at("[permute] axes [0] are no order of the axes of shape [3,4]"));
  CHECK(message([&] { a.transpose(0, 2); }) ==
        error_at("[transpose] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] { a.slice(2, 0); }) == error_at("[slice] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] { a.slice(0, 0, 2, 0); }) == error_at("[slice] step is 0"));
  CHECK(message([&] { a.select(1, 4); }) ==
        error_at("[select] index 4 is out of range for axis 1 of shape [3,4]"));
  CHECK(message([&] { a[3]; }) == error_at("[select] index 3 is out of range for axis 0 of shape [3,4]"));
  CHECK(message([&] { Tensor::full({}, 1.0)[0]; }) ==
        error_at("[select] axis 0 is out of range for shape []"));
  CHECK(message([&] { a.unsqueeze(4); }) ==
        error_at("[unsqueeze] axis 4 is out of range for a result with 3 axes"));
  CHECK(message([&] { a.dim(2); }) == error_at("[dim] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] { cat({a, a}, 2); }) == error_at("[cat] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] {
          stack({a, a}, 3);
        }) == error_at("[stack] axis 3 is out of range for a result with 3 axes"));
  CHECK(message([&] { gather(a, Tensor::from({0}), 2); }) ==
        error_at("[gather] axis 2 is out of range for shape [3,4]"));
  CHECK(message([&] { gather(a, 3); }) ==
        error_at("[gather] index 3 is out of range for axis 0 of shape [3,4]"));
  CHECK(message([&] { gather(Tensor::zeros({0}), Tensor::from({0})); }) ==
        error_at("[gather] any index is out of range for axis 0 of shape [0]"));
  CHECK(message([&] {
          Tensor::zeros({0, 2}).max(0);
        }) == error_at("[max] no elements along axes [0] of shape [0,2]"));
  CHECK(message([&] { Tensor::zeros({0}).min(); }) ==
        error_at("[min] no elements along axes [0] of shape [0]"));
  CHECK_THROWS_AS(gather(a, Tensor::from({7})).realize(), Error);
}

TEST_CASE("tensor errors: dtypes") {
  const Tensor f = Tensor::from({1.0}), b = Tensor::from({true}), i = Tensor::from({1});
  CHECK(message([&] { f& f; }) == error_at("[&] needs bool operands, got float64"));
  CHECK(message([&] { i | b; }) == error_at("[|] needs bool operands, got int64"));
  CHECK(message([&] { !f; }) == error_at("[!] needs bool operands, got float64"));
  CHECK(message([&] { logical_and(b, 1); }) == error_at("[logical_and] needs bool operands, got int64"));
  CHECK(message([&] { b - b; }) ==
        error_at("[-] is not defined for bool; use astype, or the logical operators"));
  CHECK(message([&] { -b; }) ==
        error_at("[-] is not defined for bool; use astype, or the logical operators"));
  CHECK(message([&] { where(f, 1, 2); }) == error_at("[where] the condition is float64[1], needs bool"));
  CHECK(message([&] { f.any(); }) == error_at("[any] needs bool, got float64[1]"));
  CHECK(message([&] { gather(f, f); }) == error_at("[gather] the index is float64[1], needs integers"));
  CHECK(message([&] { f[b]; }) == error_at("[gather] the index is bool[1], needs integers"));
  CHECK(message([&] { matmul(b, b); }) == error_at("[matmul] is not defined for bool; use astype"));
  CHECK(message([&] { scatter_add(i, i, f); }) ==
        error_at("[scatter_add] values are float64, the base is int64; use astype"));
  CHECK(message([&] { pow(i, -1); }) ==
        error_at("[pow] integers to the negative power -1; use astype(DType::kFloat64)"));
  Tensor x = i;
  CHECK(message([&] { x += 0.5; }) ==
        error_at("[+=] the result is float64, the left side int64; use astype"));
  CHECK(message([&] { x /= 2; }) == error_at("[/=] the result is float64, the left side int64; use astype"));
  CHECK(message([&] { f.astype(DType::kVoid); }) == error_at("[astype] void is no element type"));
  CHECK(message([&] { Tensor::zeros({1}, DType::kVoid); }) == error_at("[zeros] void is no element type"));
}

TEST_CASE("tensor errors: numbers") {
  const Tensor i4 = Tensor::from(std::vector<int>{1});
  CHECK(message([&] { i4 + 5'000'000'000; }) == error_at("[+] the number 5000000000 does not fit int32"));
  CHECK(message([&] { Tensor::full({1}, 0.5, DType::kInt64); }) ==
        error_at("[full] the number 0.5 does not fit int64"));
  CHECK(message([&] { Tensor::full({1}, std::nan(""), DType::kInt64); }) ==
        error_at("[full] the number nan does not fit int64"));
  CHECK(message([&] { i4.pad({{1, 1}}, 1e20); }) == error_at("[pad] the number 1e+20 does not fit int32"));
  CHECK(message([&] { i4 + std::numeric_limits<std::uint64_t>::max(); }) ==
        error_at("[Arg] the number 18446744073709551615 does not fit int64"));
  CHECK(message([&] { Tensor::arange(0, 1, 0); }) == error_at("[arange] step is 0"));
  CHECK(message([&] { Tensor::arange(0.0, std::nan("")); }) ==
        error_at("[arange] the number nan is not finite"));
  CHECK(message([&] { Tensor::arange(0, 1e300); }) == error_at("[arange] 1e+300 elements are too many"));
  CHECK(message([&] { Tensor::arange(i4); }) == error_at("[arange] needs C++ numbers, got a tensor"));
  CHECK(message([&] { Tensor::linspace(0, 1, -1); }) ==
        error_at("[linspace] negative number of elements -1"));
}

TEST_CASE("tensor errors: creation and values") {
  CHECK(message([&] { Tensor::zeros({2, -1}); }) == error_at("[zeros] negative size in shape [2,-1]"));
  CHECK(message([&] {
          Tensor::zeros({std::int64_t{1} << 40, std::int64_t{1} << 40});
        }) == error_at("[zeros] shape [1099511627776,1099511627776] has too many elements"));
  CHECK(message([&] { Tensor::eye(-1); }) == error_at("[eye] negative size in shape [-1,-1]"));
  CHECK(message([&] { Tensor::from({1.0, 2.0}, {3}); }) == error_at("[from] 2 values do not fill shape [3]"));
  CHECK(message([&] {
          Tensor::from({{1.0, 2.0}, {3.0}});
        }) == error_at("[from] the nested lists differ in length"));
  CHECK(message([&] { Tensor::full({2}, counting({2})); }) ==
        error_at("[full] the value is float64[2], needs one number"));
  const Tensor x = counting({3});
  CHECK(message([&] { x.item<double>(); }) == error_at("[item] float64[3] has not exactly one element"));
  CHECK(message([&] { Tensor::zeros({0}).item<double>(); }) ==
        error_at("[item] float64[0] has not exactly one element"));
  CHECK(message([&] { x.sum().item<float>(); }) ==
        error_at("[item] the tensor is float64[], asked for float32; convert with astype"));
  CHECK(message([&] { x.to_vector<std::int64_t>(); }) ==
        error_at("[to_vector] the tensor is float64[3], asked for int64; convert with astype"));
  Tensor empty;
  const std::string why = "the tensor is empty: it was default constructed or moved from";
  CHECK(message([&] { empty + 1.0; }) == error_at("[+] " + why));
  CHECK(message([&] { empty.sum(); }) == error_at("[sum] " + why));
  CHECK(message([&] { sin(empty); }) == error_at("[sin] " + why));
  CHECK(message([&] { empty.shape(); }) == error_at("[shape] " + why));
  CHECK(message([&] { empty += 1.0; }) == error_at("[+=] " + why));
  CHECK(message([&] { stack({x, empty}); }) == error_at("[stack] " + why));
  const Tensor open = tensor(symbol(DType::kFloat64, Shape{}));
  CHECK(message([&] { (open * 2.0).item<double>(); }).find("[item] the value depends on an argument") == 0);
}

TEST_CASE("tensor errors: the failing operand's own line is not lost in an expression") {
  const Tensor a = counting({3}), b = counting({2});
  const unsigned line = __LINE__ + 1;
  auto f = [&](const Tensor& x) { return sin(x * 2.0) + b; };
  const std::string text = message([&] { f(a); });
  CHECK(text ==
        "[+] shapes [3] and [2] do not broadcast (test_tensor_errors.cpp:" + std::to_string(line) + ")");
}

}  // namespace tinyphys::testing
