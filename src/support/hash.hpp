#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tinyphys {

/// A content hash: the same for the same bytes in every process and on every machine. 128 bits, so that equal
/// hashes may be taken for equal contents.
struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  auto operator<=>(const Hash128&) const = default;
  /// 32 hexadecimal digits, high part first.
  std::string hex() const;
};

/// XXH3_128bits of the bytes.
Hash128 content_hash(const void* data, std::size_t bytes);
inline Hash128 hash_bytes(std::string_view text) { return content_hash(text.data(), text.size()); }

/// Adds `value` to the hash of a node: a 64 x 64 multiply folded to 64 bits, as in wyhash. Order matters. For tables
/// in memory only; a caller must compare on a hit.
inline std::uint64_t hash_mix(std::uint64_t hash, std::uint64_t value) {
  __extension__ using Wide = unsigned __int128;
  Wide product = static_cast<Wide>(hash ^ 0x9e3779b97f4a7c15u) * (value ^ 0xe7037ed1a0b428dbu);
  // The product is 0 where either factor is, and would forget the other: keep both in it.
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64) ^
         (hash + (value << 1));
}

}  // namespace tinyphys
