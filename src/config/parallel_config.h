// How ranks that train together divide the work (keys under `parallel:`).
#pragma once

#include <array>
#include <cstdint>

#include "config/fields.h"

namespace transxssm {

enum class ReduceDtype { fp32, bf16 };

constexpr auto enum_names(ReduceDtype) {
  return std::to_array<EnumName<ReduceDtype>>({{ReduceDtype::fp32, "fp32"}, {ReduceDtype::bf16, "bf16"}});
}

inline constexpr int64_t kLastZeroStage = 3;

struct ParallelConfig {
  int64_t zero_stage = 0;
  ReduceDtype reduce_dtype = ReduceDtype::fp32;
  int64_t timeout_seconds = 600;
  bool operator==(const ParallelConfig&) const = default;
};

template <SelfOf<ParallelConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(
      Field{.name = "zero_stage",
            .doc = "What several ranks share instead of each holding all of it (ZeRO). 0: nothing; 1: fp32 "
                   "master weights and Adam's moments, a part on each rank; 2: gradients too, added up after "
                   "every micro-batch; 3: weights too, gathered block by block. Changes memory and speed.",
            .bounds = between(0, kLastZeroStage)},
      self.zero_stage);
  visit(Field{.name = "reduce_dtype",
              .doc = "In which several ranks add up their gradients. bf16 halves what is sent and rounds "
                     "each rank's gradient and their sum to 8 bits."},
        self.reduce_dtype);
  visit(Field{.name = "timeout_seconds",
              .doc = "After so long ranks that are missing at the start, dead, or not where the others wait "
                     "end the run.",
              .bounds = between(1, 86400)},
        self.timeout_seconds);
}

}  // namespace transxssm
