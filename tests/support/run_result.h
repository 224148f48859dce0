// What a run of training left behind: its newest state, its status, and whether two runs ended in equal bits.
#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include <ATen/ops/equal.h>

#include "checkpoint/locate.h"
#include "checkpoint/reader.h"
#include "core/atomic_file.h"
#include "support/catch.h"

namespace transxssm::test {

inline StateDict final_state(const std::filesystem::path& run_dir) {
  return CheckpointReader(resolve_checkpoint(run_dir)).load();
}

inline void require_equal_bits(const StateDict& a, const StateDict& b) {
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    CAPTURE(name);
    REQUIRE(at::equal(tensor, b.tensors.at(name)));
  }
  REQUIRE(a.values.at("loader") == b.values.at("loader"));
  REQUIRE(a.values.at("optimizer") == b.values.at("optimizer"));
}

inline nlohmann::json status_of(const std::filesystem::path& run_dir) {
  return nlohmann::json::parse(read_file(run_dir / "status.json"));
}

}  // namespace transxssm::test
