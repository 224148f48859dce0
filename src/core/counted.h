// Counts in messages.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

namespace transxssm {

// "1 shard", "2 shards".
template <class Integer>
requires std::is_integral_v<Integer> std::string counted(Integer count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace transxssm
