// Philox4x32-10, a counter-based random number generator: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel
// random numbers: as easy as 1, 2, 3", SC 2011. A bijection of 128-bit counters for every 64-bit key.
#pragma once

#include <array>
#include <cstdint>

namespace tinyphys::philox {

inline constexpr int kRounds = 10;
inline constexpr std::uint64_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
inline constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;

using Counter = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

constexpr Counter block(Counter c, Key k) {
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t a = kMultiply0 * c[0], b = kMultiply1 * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(a)};
    k[0] += kWeyl0;
    k[1] += kWeyl1;
  }
  return c;
}

// What the op PHILOX takes of a block. As one number it is the arg of the op.
struct Draw {
  std::int64_t stream;  // the third word of the counter: draws of different streams are independent
  std::int64_t half;    // words 0 and 1 of the block, or 2 and 3; the first of them is the high one
  std::int64_t bits;    // so many of its upper bits, 1 to 63
};
constexpr std::int64_t number(Draw d) { return (d.stream * 2 + d.half) * 64 + d.bits; }
constexpr Draw draw_of(std::int64_t number) { return {number / 128, number / 64 % 2, number % 64}; }

constexpr std::int64_t draw(std::int64_t number, std::int64_t key, std::int64_t counter) {
  const Draw d = draw_of(number);
  const auto k = static_cast<std::uint64_t>(key), c = static_cast<std::uint64_t>(counter);
  const Counter b = block({static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(c >> 32),
                           static_cast<std::uint32_t>(d.stream), 0},
                          {static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(k >> 32)});
  const auto first = static_cast<std::size_t>(2 * d.half);
  return static_cast<std::int64_t>((std::uint64_t{b[first]} << 32 | b[first + 1]) >> (64 - d.bits));
}

}  // namespace tinyphys::philox
