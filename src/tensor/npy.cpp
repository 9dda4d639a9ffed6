// NumPy's .npy format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <istream>
#include <optional>
#include <ostream>

#include "tensor/files.hpp"
#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little endian, as the memory is");

constexpr std::string_view kMagic = "\x93NUMPY";

std::string_view descr_of(DType d) {
  switch (d) {
    case DType::kBool: return "|b1";
    case DType::kInt32: return "<i4";
    case DType::kInt64: return "<i8";
    case DType::kFloat32: return "<f4";
    case DType::kFloat64: return "<f8";
    case DType::kComplex64: return "<c8";
    case DType::kComplex128: return "<c16";
    case DType::kVoid: break;
  }
  return "";
}
DType dtype_of_descr(std::string_view s) {
  for (DType d : {DType::kBool, DType::kInt32, DType::kInt64, DType::kFloat32, DType::kFloat64,
                  DType::kComplex64, DType::kComplex128})
    if (s == descr_of(d)) return d;
  return DType::kVoid;
}

struct Header {
  std::string descr;
  bool fortran = false;
  Dims shape;
};

// The header is a Python dict literal with the three keys in any order.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : rest_(text) {}

  std::optional<Header> read() {
    Header h;
    bool descr = false, order = false, shape = false;
    if (!take('{')) return {};
    while (!take('}')) {
      std::string key;
      if (!quoted(key) || !take(':')) return {};
      bool ok = false;
      if (key == "descr") ok = descr = quoted(h.descr);
      if (key == "fortran_order") ok = order = truth(h.fortran);
      if (key == "shape") ok = shape = tuple(h.shape);
      if (!ok) return {};
      if (!take(',') && !peek('}')) return {};
    }
    if (!descr || !order || !shape) return {};
    return h;
  }

 private:
  void skip_space() {
    const std::size_t n = rest_.find_first_not_of(" \t\n");
    rest_.remove_prefix(n == std::string_view::npos ? rest_.size() : n);
  }
  bool peek(char c) {
    skip_space();
    return !rest_.empty() && rest_[0] == c;
  }
  bool take(char c) {
    if (!peek(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_word(std::string_view w) {
    skip_space();
    if (rest_.substr(0, w.size()) != w) return false;
    rest_.remove_prefix(w.size());
    return true;
  }
  bool quoted(std::string& out) {
    const char quote = peek('"') ? '"' : '\'';
    if (!take(quote)) return false;
    const std::size_t end = rest_.find(quote);
    if (end == std::string_view::npos) return false;
    out = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool truth(bool& out) {
    out = take_word("True");
    return out || take_word("False");
  }
  bool tuple(Dims& out) {
    if (!take('(')) return false;
    while (!take(')')) {
      skip_space();
      std::int64_t v = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), v);
      if (error != std::errc() || v < 0) return false;
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      take('L');  // written by Python 2
      out.push_back(v);
      if (!take(',') && !peek(')')) return false;
    }
    return true;
  }

  std::string_view rest_;
};

}  // namespace

namespace front {

void write_npy(std::ostream& file, const Node* u, const Where& where) {
  std::string dict =
      "{'descr': '" + std::string(descr_of(u->dtype)) + "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < u->n_dim; ++i) dict += (i ? ", " : "") + std::to_string(u->shape()[i]);
  dict += u->n_dim == 1 ? ",), }" : "), }";
  // Magic, version, length and header fill a multiple of 64 bytes; the header ends with a newline.
  const std::size_t fixed = kMagic.size() + 4;
  dict.append((64 - (fixed + dict.size() + 1) % 64) % 64, ' ');
  dict += '\n';
  constexpr std::size_t kMaxVersion1 = 65535;
  if (dict.size() > kMaxVersion1) fail("save", "too many axes for the file format", where);
  const char version_and_length[] = {1, 0, static_cast<char>(dict.size() & 255),
                                     static_cast<char>(dict.size() >> 8)};
  file << kMagic;
  file.write(version_and_length, sizeof version_and_length);
  file << dict;
  const std::size_t bytes = static_cast<std::size_t>(u->size()) * item_size(u->dtype);
  file.write(HostRead(*storage(u)).as<char>(), static_cast<std::streamsize>(bytes));
}

Tensor read_npy(std::istream& file, const std::string& path, const Where& where) {
  auto bad = [&](const std::string& why) { fail("load", "\"" + path + "\": " + why, where); };
  auto read = [&](char* to, std::size_t n, const char* what) {
    file.read(to, static_cast<std::streamsize>(n));
    if (file.gcount() != static_cast<std::streamsize>(n)) bad("the file ends within " + std::string(what));
  };

  std::array<char, 8> start;
  read(start.data(), start.size(), "the magic bytes");
  if (std::string_view(start.data(), kMagic.size()) != kMagic) bad("not a .npy file: wrong magic bytes");
  const int version = start[6];
  if (version < 1 || version > 3) bad("format version " + std::to_string(version) + ", known are 1 to 3");
  std::array<unsigned char, 4> length_bytes{};
  read(reinterpret_cast<char*>(length_bytes.data()), version == 1 ? 2 : 4, "the header length");
  const std::uint32_t length = std::bit_cast<std::uint32_t>(length_bytes);
  constexpr std::uint32_t kMaxHeader = 1 << 20;
  if (length > kMaxHeader) bad("a header of " + std::to_string(length) + " bytes is too long");
  std::string text(length, '\0');
  read(text.data(), length, "the header");
  const std::optional<Header> header = HeaderReader(text).read();
  if (!header) {
    text.erase(std::min(text.find_last_not_of(" \n") + 1, std::size_t{120}));
    bad("the header is malformed: " + text);
  }
  const DType dtype = dtype_of_descr(header->descr);
  if (dtype == DType::kVoid)
    bad("dtype '" + header->descr + "' is not supported; known are |b1 <i4 <i8 <f4 <f8 <c8 <c16");
  check_shape(header->shape, "load", where);

  // Asked before memory is: a corrupt shape must not allocate.
  const std::streamoff data = file.tellg();
  file.seekg(0, std::ios::end);
  const std::streamoff present = file.tellg() - data;
  file.seekg(data);
  std::int64_t size = 1;
  for (std::int64_t d : header->shape) size *= d;
  const std::size_t bytes = static_cast<std::size_t>(size) * item_size(dtype);
  if (present < 0 || static_cast<std::size_t>(present) < bytes)
    bad("shape " + shape_text(header->shape) + " of " + std::string(name(dtype)) + " needs " +
        std::to_string(bytes) + " bytes, the file holds " + std::to_string(present));
  StorageRef values = front::allocate(dtype, header->shape, "load", where);
  {
    const HostWrite to(*values);
    read(to.as<char>(), bytes, "the data");
    if (dtype == DType::kBool)
      for (std::size_t i = 0; i < bytes; ++i) to.as<unsigned char>()[i] = to.as<unsigned char>()[i] != 0;
  }
  if (!header->fortran) return tensor(buffer(dtype, header->shape, std::move(values)));
  // Column-major order is the row-major order of the transpose.
  const Dims reversed(header->shape.rbegin(), header->shape.rend());
  return tensor(buffer(dtype, reversed, std::move(values))).transpose(where);
}

}  // namespace front
}  // namespace tinyphys
