#include "support/hash.hpp"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tinyphys {

std::string Hash128::hex() const { return fmt::format("{:016x}{:016x}", high, low); }

Hash128 content_hash(const void* data, std::size_t bytes) {
  XXH128_hash_t hash = XXH3_128bits(data, bytes);
  return {hash.low64, hash.high64};
}

}  // namespace tinyphys
