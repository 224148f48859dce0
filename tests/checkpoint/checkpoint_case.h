// States to save, and comparing what comes back.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <ATen/ATen.h>

#include "checkpoint/checkpointer.h"
#include "core/state.h"
#include "support/catch.h"
#include "support/temp_folder.h"

namespace transxssm::test {

// Awkward sizes of every type a checkpoint holds: empty, scalar, prime, strided, and bytes that are no finite
// number.
inline StateDict sample_state(int64_t seed = 1) {
  StateDict state;
  const at::Tensor base = at::arange(seed, seed + 7 * 13, at::kDouble).reshape({7, 13}) / 3;
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf, at::kLong, at::kInt, at::kShort,
                          at::kChar, at::kByte, at::kBool}) {
    const std::string name = c10::toString(type);
    state.tensors["whole." + name] = base.to(type);
    state.tensors["strided." + name] = base.to(type).t().slice(0, 1, 12, 3);
    state.tensors["scalar." + name] = base.to(type)[2][5];
    state.tensors["empty." + name] = at::empty({0, 5}, type);
  }
  state.tensors["nan"] = at::full({3}, std::nan(""));
  state.values = {
      {"loader", {{"cursor", seed}, {"seed", 18446744073709551615u}}}, {"rate", 0.1}, {"name", "µ"}};
  return state;
}

inline StateDict small_state(int64_t seed) {
  StateDict state;
  state.tensors["weight"] = at::arange(seed, seed + 1009, at::kFloat);
  state.tensors["bias"] = at::full({3, 5}, seed, at::kLong);
  state.values = {{"seed", seed}};
  return state;
}

inline bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.scalar_type() == y.scalar_type() && x.sizes() == y.sizes() &&
         (x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0);
}

inline void require_same(const StateDict& got, const StateDict& wanted) {
  REQUIRE(got.values == wanted.values);
  REQUIRE(got.tensors.size() == wanted.tensors.size());
  for (const auto& [name, tensor] : wanted.tensors) {
    INFO(name);
    REQUIRE(same_bytes(got.tensors.at(name), tensor));
  }
}

inline void flip_byte(const std::filesystem::path& file, int64_t offset_from_end) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(-offset_from_end, std::ios::end);
  const int byte = stream.get();
  stream.seekp(-offset_from_end, std::ios::end);
  stream.put(static_cast<char>(byte ^ 0x10));
}

inline std::filesystem::path first_shard(const std::filesystem::path& step_folder) {
  return step_folder / "shard-00000-00001.safetensors";
}

}  // namespace transxssm::test
