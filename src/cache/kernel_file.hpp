// The file of one compiled kernel: text that says what it is and what it was made for, then the bytes that a device loads.
//
//   tinyphys kernel    1 bytes         5321 check <32 hex> key <32 hex> hits          3 made   1764528000
//   name 34                       each part: a tag, a length, a line break, so many bytes, a line break
//   k_5ad0...
//   field:backend 4               the key, field by field
//   llvm
//   ...
//   graph N, source N, payload N
//
// Everything after the first line is a function of the kernel and of the key: two processes write the same. `hits` and
// `made` are for the eye, stand in the first line and are in no checksum; all else is verified before use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cache/key.hpp"
#include "support/hash.hpp"

namespace tinyphys {

// Of this file format. Goes into each key, so that no version looks for the files of another.
inline constexpr int kKernelFormat = 1;
inline constexpr std::string_view kKernelSuffix = ".kernel";

struct KernelFile {
  std::string name;  // of the kernel, as Source::name
  KeyFields fields;
  std::string graph;    // for the eye: the LAMBDA it was made from, with the places in the program
  std::string source;   // what was compiled
  std::string payload;  // what compile() gave
};

struct KernelHeader {
  int format = 0;
  std::int64_t bytes = 0;           // of the whole file
  std::string check, key;           // hexadecimal
  std::int64_t hits = 0, made = 0;  // `made` in seconds since 1970
};

// Over the format, every field and the source.
Hash128 kernel_key(const KeyFields& fields, std::string_view source);

std::string encode(const KernelFile& file, std::int64_t made);

// The first line. Returns what is wrong with it; "" when nothing is. A file of another format has no more that this
// version could read: of its header, only `format` is set then, and nothing is wrong.
inline constexpr std::size_t kHeaderBytes = 150;
std::string decode_header(std::string_view bytes, KernelHeader& out);
// The whole file, verified: format, size, checksum, and that the key is the hash of what it stands for.
std::string decode(std::string_view bytes, KernelHeader& header, KernelFile& out);

// Where the number of hits stands in the first line, and how it is written.
inline constexpr std::size_t kHitsAt = 121, kHitsDigits = 10;
std::string hits_text(std::int64_t hits);

// The first field that differs, as "cpu is znver4, not znver5"; "" where none does.
std::string first_difference(const KeyFields& have, const KeyFields& want);

}  // namespace tinyphys
