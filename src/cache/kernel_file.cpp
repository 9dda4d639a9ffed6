#include "cache/kernel_file.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

namespace tinyphys {
namespace {

constexpr std::string_view kMagic = "tinyphys kernel ";
constexpr std::size_t kFormatDigits = 4, kBytesDigits = 12, kMadeDigits = 12, kHexDigits = 32;

void put(std::string& out, std::string_view tag, std::string_view value) {
  out += fmt::format("{} {}\n", tag, value.size());
  out += value;
  out += '\n';
}

// Takes a prefix off; false when it is not there.
bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// A number in so many columns, blanks before it; each has one spelling.
bool take_number(std::string_view& text, std::size_t columns, std::int64_t& out) {
  if (text.size() < columns) return false;
  std::string_view digits = text.substr(0, columns);
  text.remove_prefix(columns);
  digits.remove_prefix(std::min(digits.find_first_not_of(' '), digits.size()));
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return error == std::errc() && end == digits.data() + digits.size() && out >= 0 &&
         (digits[0] != '0' || digits.size() == 1);
}

bool take_hex(std::string_view& text, std::string& out) {
  if (text.size() < kHexDigits) return false;
  out = text.substr(0, kHexDigits);
  text.remove_prefix(kHexDigits);
  return std::all_of(out.begin(), out.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// The next part of the body.
bool take_part(std::string_view& text, std::string_view& tag, std::string_view& value) {
  const std::size_t line = text.find('\n'), space = text.substr(0, line).rfind(' ');
  if (line == std::string_view::npos || space == std::string_view::npos) return false;
  tag = text.substr(0, space);
  std::string_view length = text.substr(space + 1, line - space - 1);
  std::int64_t n = 0;
  if (!take_number(length, length.size(), n)) return false;
  text.remove_prefix(line + 1);
  if (static_cast<std::uint64_t>(n) >= text.size() || text[static_cast<std::size_t>(n)] != '\n') return false;
  value = text.substr(0, static_cast<std::size_t>(n));
  text.remove_prefix(static_cast<std::size_t>(n) + 1);
  return true;
}

std::string key_text(const KeyFields& fields) {
  std::string text;
  put(text, "format", std::to_string(kKernelFormat));
  for (const KeyField& f : fields) put(text, "field:" + f.name, f.value);
  return text;
}

}  // namespace

Hash128 kernel_key(const KeyFields& fields, std::string_view source) {
  std::string text = key_text(fields);
  put(text, "source", source);
  return hash_bytes(text);
}

std::string hits_text(std::int64_t hits) {
  constexpr std::int64_t kMost = 9'999'999'999;
  return fmt::format("{:{}}", std::min(hits, kMost), kHitsDigits);
}

std::string encode(const KernelFile& file, std::int64_t made) {
  std::string body;
  put(body, "name", file.name);
  for (const KeyField& f : file.fields) put(body, "field:" + f.name, f.value);
  put(body, "graph", file.graph);
  put(body, "source", file.source);
  put(body, "payload", file.payload);
  return fmt::format("{}{:{}} bytes {:{}} check {} key {} hits {} made {:{}}\n", kMagic, kKernelFormat,
                     kFormatDigits, kHeaderBytes + body.size(), kBytesDigits, hash_bytes(body).hex(),
                     kernel_key(file.fields, file.source).hex(), hits_text(0), made, kMadeDigits) +
         body;
}

std::string decode_header(std::string_view bytes, KernelHeader& out) {
  out = {};
  if (bytes.empty()) return "it is empty";
  std::int64_t format = 0;
  if (!take(bytes, kMagic) || !take_number(bytes, kFormatDigits, format)) return "it is no kernel file";
  out.format = static_cast<int>(format);
  if (out.format != kKernelFormat) return {};
  if (!take(bytes, " bytes ") || !take_number(bytes, kBytesDigits, out.bytes) || !take(bytes, " check ") ||
      !take_hex(bytes, out.check) || !take(bytes, " key ") || !take_hex(bytes, out.key) ||
      !take(bytes, " hits "))
    return "its first line is damaged";
  // What two processes write at once may be read half and half: it is worth no file.
  if (!take_number(bytes, kHitsDigits, out.hits)) out.hits = 0;
  if (!take(bytes, " made ") || !take_number(bytes, kMadeDigits, out.made) || !take(bytes, "\n"))
    return "its first line is damaged";
  return {};
}

std::string decode(std::string_view bytes, KernelHeader& header, KernelFile& out) {
  out = {};
  if (std::string problem = decode_header(bytes, header); !problem.empty()) return problem;
  if (header.format != kKernelFormat)
    return fmt::format("it has format {}, not {}", header.format, kKernelFormat);
  if (static_cast<std::uint64_t>(header.bytes) != bytes.size())
    return fmt::format("it has {} bytes, not the {} that it says", bytes.size(), header.bytes);
  std::string_view body = bytes.substr(kHeaderBytes), tag, value;
  if (hash_bytes(body).hex() != header.check) return "its checksum is wrong";
  const std::string damaged = "its parts are damaged";
  if (!take_part(body, tag, value) || tag != "name") return damaged;
  out.name = value;
  while (take_part(body, tag, value) && take(tag, "field:"))
    out.fields.push_back({std::string(tag), std::string(value)});
  if (tag != "graph") return damaged;
  out.graph = value;
  if (!take_part(body, tag, value) || tag != "source") return damaged;
  out.source = value;
  if (!take_part(body, tag, value) || tag != "payload" || !body.empty()) return damaged;
  out.payload = value;
  if (kernel_key(out.fields, out.source).hex() != header.key) return "its key is not that of its contents";
  return {};
}

std::string first_difference(const KeyFields& have, const KeyFields& want) {
  const auto find = [](const KeyFields& in, const std::string& name) {
    return std::find_if(in.begin(), in.end(), [&](const KeyField& f) { return f.name == name; });
  };
  for (const KeyField& w : want) {
    const auto h = find(have, w.name);
    if (h == have.end()) return w.name + " is missing";
    if (h->value != w.value) return fmt::format("{} is {}, not {}", w.name, h->value, w.value);
  }
  for (const KeyField& h : have)
    if (find(want, h.name) == want.end()) return h.name + " is new";
  return have == want ? "" : "the order of the fields";
}

}  // namespace tinyphys
