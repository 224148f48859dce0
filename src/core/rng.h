// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): number i of a stream is a pure function
// of (key, i), so initial values, data order and samples don't depend on threads, ranks or what ran before.
#pragma once

#include <array>
#include <cstdint>

namespace transxssm {

class Philox {
 public:
  explicit Philox(uint64_t key) : key_{static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)} {}

  // Block `counter` of the stream: four independent uniform 32-bit words.
  std::array<uint32_t, 4> block(uint64_t counter) const {
    std::array<uint32_t, 4> c{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
    std::array<uint32_t, 2> k = key_;
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
      c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
           static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
      k[0] += 0x9E3779B9;
      k[1] += 0xBB67AE85;
    }
    return c;
  }

  // Number i of the stream as a uniform double in (0, 1), 53 bits, never 0 or 1.
  double uniform(uint64_t i) const {
    const auto w = block(i);
    const uint64_t bits = (uint64_t{w[0]} << 21) ^ (w[1] >> 11);
    return (static_cast<double>(bits & ((uint64_t{1} << 53) - 1)) + 0.5) * 0x1.0p-53;
  }

 private:
  std::array<uint32_t, 2> key_;
};

}  // namespace transxssm
