#include <cstdio>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include "test_tensor_helpers.hpp"

namespace tinyphys::testing {
namespace {

// A folder of its own, gone at the end.
struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("tinyphys_npy_" + std::to_string(getpid()));
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator()(const std::string& name) const { return (path / name).string(); }
};

std::string contents(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(f), {}};
}
void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string npy(const std::string& header, const std::string& data, int version = 1) {
  std::string s = "\x93NUMPY";
  s += static_cast<char>(version);
  s += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) s += static_cast<char>(header.size() >> (8 * i) & 255);
  return s + header + data;
}
template <class T> std::string bytes(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("npy: round trips") {
  const Folder folder;
  const std::string file = folder("x.npy");
  auto trip = [&](const Tensor& x) {
    save(file, x);
    const Tensor y = load(file);
    CHECK(y.shape() == x.shape());
    CHECK(y.dtype() == x.dtype());
    CHECK((x == y).all().item<bool>());
  };
  trip(Tensor::from({{1.5, -2.0, 1e-310}, {0.0, 3.25, 1e308}}));
  trip(Tensor::from({0.1f, -7.0f}));
  trip(Tensor::from(Ints{1, -2, 3, std::int64_t{1} << 62}, {2, 1, 2}));
  trip(Tensor::from(std::vector<int>{-5, 6}));
  trip(Tensor::from({true, false, true}));
  trip(Tensor::full({}, 4.5));
  trip(Tensor::zeros({0, 3}));
  trip(counting({4, 5}).transpose() * 2.0);
  save(file, Tensor::from({1.0}));
  save(file, 2.0);  // replaces the file
  CHECK(load(file).item<double>() == 2);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);  // no temporary is left
}

TEST_CASE("npy: the bytes that NumPy writes") {
  const Folder folder;
  const std::string file = folder("x.npy");
  save(file, Tensor::from({{1.0, 2.0}}));
  std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }";
  header += std::string(128 - 10 - header.size() - 1, ' ') + "\n";
  CHECK(contents(file) == npy(header, bytes({1.0, 2.0})));
}

TEST_CASE("npy: versions, order of keys, order of elements") {
  const Folder folder;
  const std::string file = folder("x.npy");
  const std::string data = bytes({1.0, 2.0, 3.0, 4.0, 5.0, 6.0});
  for (int version : {1, 2, 3}) {
    write(file, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n", data, version));
    CHECK(doubles(load(file)) == Doubles{1, 2, 3, 4, 5, 6});
    write(file, npy("{'shape': (2, 3), 'fortran_order': True, \"descr\": \"<f8\"}", data, version));
    CHECK(load(file).shape() == Shape{2, 3});
    CHECK(doubles(load(file)) == Doubles{1, 3, 5, 2, 4, 6});
  }
  write(file, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (6L,), }\n", data + "more"));
  CHECK(load(file).shape() == Shape{6});
  write(file, npy("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", std::string("\x02\x00", 2)));
  CHECK(bools(load(file)) == Bools{true, false});
}

TEST_CASE("npy: bad files") {
  const Folder folder;
  const std::string file = folder("x.npy"), quoted = "\"" + file + "\": ";
  const std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n";
  const std::string good = npy(header, bytes({1.0, 2.0}));
  CHECK(message([&] { load(folder("none.npy")); }) ==
        error_at("[load] \"" + folder("none.npy") + "\": cannot read: No such file or directory"));
  // Cut anywhere, the file is refused.
  for (std::size_t n = 0; n < good.size(); ++n) {
    write(file, good.substr(0, n));
    CHECK_THROWS_AS(load(file), Error);
  }
  write(file, good.substr(0, good.size() - 1));
  CHECK(message([&] { load(file); }) ==
        error_at("[load] " + quoted + "shape [2] of float64 needs 16 bytes, the file holds 15"));
  write(file, good.substr(0, 20));
  CHECK(message([&] { load(file); }) == error_at("[load] " + quoted + "the file ends within the header"));
  write(file, "PK\x03\x04 a zip file");
  CHECK(message([&] { load(file); }) == error_at("[load] " + quoted + "not a .npy file: wrong magic bytes"));
  write(file, npy(header, bytes({1.0, 2.0}), 9));
  CHECK(message([&] { load(file); }) == error_at("[load] " + quoted + "format version 9, known are 1 to 3"));
  for (const char* descr : {">f8", "<f2", "<c32", "|O", "<U3"}) {
    write(file, npy("{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (2,), }",
                    "0123456789abcdef"));
    CHECK(message([&] { load(file); }) ==
          error_at("[load] " + quoted + "dtype '" + descr +
                   "' is not supported; known are |b1 <i4 <i8 <f4 <f8 <c8 <c16"));
  }
  for (const char* bad :
       {"", "{}", "{'descr': '<f8'}", "{'descr': '<f8', 'fortran_order': Maybe, 'shape': (2,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2", "{'descr': [('a', '<f8')]}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}"}) {
    write(file, npy(bad, bytes({1.0, 2.0})));
    CHECK(message([&] { load(file); }) == error_at("[load] " + quoted + "the header is malformed: " + bad));
  }
  // A corrupt shape is refused before memory is asked for.
  write(file, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 1000000)}", bytes({1.0})));
  CHECK(message([&] { load(file); }) ==
        error_at("[load] " + quoted +
                 "shape [4000000000,1000000] of float64 needs 32000000000000000 bytes, the file holds 8"));
  write(file,
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 4000000000)}", bytes({1.0})));
  CHECK(message([&] { load(file); }) ==
        error_at("[load] shape [4000000000,4000000000] has too many elements"));
}

TEST_CASE("npy: where nothing can be written") {
  const Folder folder;
  const Tensor x = Tensor::from({1.0});
  CHECK(message([&] { save(folder("no/such/x.npy"), x); }).find("No such file or directory") !=
        std::string::npos);
  // The target is a folder: the rename fails and the temporary file goes.
  std::filesystem::create_directories(folder("taken.npy"));
  CHECK(message([&] { save(folder("taken.npy"), x); }).find("[save] cannot write") == 0);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
}

TEST_CASE("csv: written and read back") {
  const Folder folder;
  const std::string file = folder("x.csv");
  const Tensor table = Tensor::from({{1.0, 0.1, -1e300}, {1.0 / 3, std::nan(""), 5e-324}});
  save(file, table);
  CHECK(contents(file) ==
        "1,0.10000000000000001,-1.0000000000000001e+300\n0.33333333333333331,nan,4.9406564584124654e-324\n");
  CHECK(load(file).shape() == Shape{2, 3});
  CHECK(same(doubles(load(file)), doubles(table)));
  save(file, Tensor::from({1.5, -std::numeric_limits<double>::infinity()}));
  CHECK(contents(file) == "1.5\n-inf\n");
  CHECK(load(file).shape() == Shape{2});
  save(file, Tensor::from({{1, 2}, {3, 4}}));
  CHECK(contents(file) == "1,2\n3,4\n");
  save(file, Tensor::from({true, false}));
  CHECK(contents(file) == "1\n0\n");
  save(file, Tensor::from(std::vector<float>{0.1f}));
  CHECK(static_cast<float>(load(file)[0].item<double>()) == 0.1f);
  save(file, Tensor::from({{7.0, 8.0}}));
  CHECK(load(file).shape() == Shape{1, 2});
  save(file, Tensor::zeros({0}));
  CHECK(load(file).shape() == Shape{0});
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);

  write(file, "# x, y\r\n 1 ,\t+2\r\n\r\n3e0,inf");
  CHECK(same(doubles(load(file)), {1, 2, 3, std::numeric_limits<double>::infinity()}));
}

TEST_CASE("csv: errors name the file, its line and the user's line") {
  const Folder folder;
  const std::string file = folder("x.csv"), quoted = "\"" + file + "\"";
  write(file, "1,2\n3\n");
  CHECK(message([&] { load(file); }) ==
        error_at("[load] " + quoted + " line 2: 1 numbers, the first row has 2"));
  write(file, "q,p\n1,2\n");
  CHECK(message([&] { load(file); }) ==
        error_at("[load] " + quoted + " line 1: \"q\" is not a float64 number"));
  for (const std::string text : {"1,\n", "1,,2", "0x10", "1 2", "1;2", "--1", "1e", "nan1", "1e999"}) {
    write(file, text);
    CHECK_THROWS_AS(load(file), Error);
  }
  CHECK(message([&] {
          save(file, Tensor::zeros({1, 2, 3}));
        }) == error_at("[save] a .csv file holds rows of numbers, of one or two axes; the tensor is "
                       "float64[1,2,3]: reshape "
                       "it, or save as .npy"));
  CHECK_THROWS_AS(save(file, 1.0), Error);
  CHECK_THROWS_AS(save(file, Tensor::zeros({0, 3})), Error);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
  for (const std::string name : {"x.txt", "x", "x.csv.bak"}) {
    const std::string path = folder(name);
    CHECK(message([&] { save(path, Tensor::from({1.0})); }) ==
          error_at("[save] \"" + path + "\": the name must end in one of .npy, .csv"));
    CHECK(message([&] { load(path); }) ==
          error_at("[load] \"" + path + "\": the name must end in one of .npy, .csv"));
  }
}

}  // namespace tinyphys::testing
