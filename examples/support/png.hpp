// A picture with a palette of 256 colours as a PNG file in memory (RFC 2083), not compressed: an SVG can
// carry it, and a heat map is a hundred times smaller than as rectangles.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace example {

using Palette = std::array<std::array<std::uint8_t, 3>, 256>;  // red, green, blue

namespace detail {

inline void put_u32(std::string& out, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(v >> shift & 0xff);
}

inline std::uint32_t crc32(std::string_view bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  std::uint32_t c = 0xffffffffu;
  for (const char byte : bytes) c = table[(c ^ static_cast<unsigned char>(byte)) & 0xff] ^ (c >> 8);
  return c ^ 0xffffffffu;
}

inline void put_chunk(std::string& out, std::string_view name, std::string_view data) {
  put_u32(out, static_cast<std::uint32_t>(data.size()));
  const std::string content = std::string(name) + std::string(data);
  out += content;
  put_u32(out, crc32(content));
}

/// A zlib stream (RFC 1950) of stored blocks.
inline std::string zlib_stored(std::string_view data) {
  std::uint32_t a = 1, b = 0;  // Adler-32
  for (const char byte : data) {
    a = (a + static_cast<unsigned char>(byte)) % 65521;
    b = (b + a) % 65521;
  }
  std::string out = "\x78\x01";
  constexpr std::size_t kBlock = 65535;
  for (std::size_t at = 0; at < data.size(); at += kBlock) {
    const std::string_view block = data.substr(at, kBlock);
    const auto length = static_cast<std::uint32_t>(block.size());
    out += at + kBlock >= data.size() ? '\1' : '\0';
    for (const std::uint32_t v : {length, ~length})
      for (const int shift : {0, 8}) out += static_cast<char>(v >> shift & 0xff);
    out += block;
  }
  put_u32(out, b << 16 | a);
  return out;
}

}  // namespace detail

/// dots: width * height indices into the palette, rows from the top.
inline std::string png(const std::vector<std::uint8_t>& dots, std::size_t width, std::size_t height,
                       const Palette& palette) {
  std::string header, colors, rows;
  detail::put_u32(header, static_cast<std::uint32_t>(width));
  detail::put_u32(header, static_cast<std::uint32_t>(height));
  header += std::string("\x08\x03\0\0\0", 5);  // 8 bits, palette
  for (const auto& color : palette) colors.append(color.begin(), color.end());
  for (std::size_t y = 0; y < height; ++y) {
    rows += '\0';  // no filter
    rows.append(reinterpret_cast<const char*>(dots.data()) + y * width, width);
  }
  std::string out = "\x89PNG\r\n\x1a\n";
  detail::put_chunk(out, "IHDR", header);
  detail::put_chunk(out, "PLTE", colors);
  detail::put_chunk(out, "IDAT", detail::zlib_stored(rows));
  detail::put_chunk(out, "IEND", "");
  return out;
}

inline std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j)
      out += j <= bytes.size() - i ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

}  // namespace example
