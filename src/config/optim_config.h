// Optimizer and learning rate (keys under `optimizer:` and `schedule:`).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "config/fields.h"

namespace transxssm {

enum class OptimizerType { adamw };
enum class ScheduleType { wsd, cosine, linear, constant };
enum class DecayType { linear, cosine, sqrt };

constexpr auto enum_names(OptimizerType) {
  return std::to_array<EnumName<OptimizerType>>({{OptimizerType::adamw, "adamw"}});
}
constexpr auto enum_names(ScheduleType) {
  return std::to_array<EnumName<ScheduleType>>({{ScheduleType::wsd, "wsd"},
                                                {ScheduleType::cosine, "cosine"},
                                                {ScheduleType::linear, "linear"},
                                                {ScheduleType::constant, "constant"}});
}
constexpr auto enum_names(DecayType) {
  return std::to_array<EnumName<DecayType>>(
      {{DecayType::linear, "linear"}, {DecayType::cosine, "cosine"}, {DecayType::sqrt, "sqrt"}});
}

struct OptimizerConfig {
  OptimizerType type = OptimizerType::adamw;
  double lr = 2e-3;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool decay_embeddings = false;
  double max_grad_norm = 1.0;
  bool operator==(const OptimizerConfig&) const = default;
};

template <SelfOf<OptimizerConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "type", .doc = "The optimizer."}, self.type);
  visit(Field{.name = "lr",
              .doc = "Peak learning rate, after warm-up.",
              .bounds = Bounds{.min = 0, .max = 10, .min_open = true}},
        self.lr);
  visit(Field{.name = "betas", .doc = "Decay of the two moments.", .bounds = below_one(), .size = 2},
        self.betas);
  visit(Field{.name = "eps", .doc = "Added to the root of the second moment.", .bounds = between(1e-30, 1)},
        self.eps);
  visit(
      Field{
          .name = "weight_decay",
          .doc =
              "Decoupled weight decay of matrices; norms, residual scales, A_log, dt_bias, D and biases have "
              "none.",
          .bounds = between(0, 10)},
      self.weight_decay);
  visit(Field{.name = "decay_embeddings", .doc = "Weight decay on embeddings too."}, self.decay_embeddings);
  visit(Field{.name = "max_grad_norm",
              .doc = "Gradients are scaled down to this norm; 0 for no clipping.",
              .bounds = at_least(0)},
        self.max_grad_norm);
}

struct ScheduleConfig {
  ScheduleType type = ScheduleType::wsd;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;
  double warmup_ratio = 0;
  double decay_ratio = 0;
  DecayType decay_type = DecayType::linear;
  double min_lr_ratio = 0.0;
  bool operator==(const ScheduleConfig&) const = default;
};

template <SelfOf<ScheduleConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "type",
              .doc = "After linear warm-up. wsd: stable, then decay over the last steps; cosine, linear: "
                     "decay until "
                     "max_steps; constant: no decay."},
        self.type);
  visit(Field{.name = "warmup_steps",
              .doc = "Linear warm-up from 0.",
              .unit = "steps",
              .bounds = between(0, 1e12)},
        self.warmup_steps);
  visit(Field{.name = "decay_steps",
              .doc = "Length of the decay.",
              .unit = "steps",
              .bounds = between(0, 1e12),
              .only_with = {"type", {"wsd"}}},
        self.decay_steps);
  visit(Field{.name = "warmup_ratio",
              .doc = "Instead of warmup_steps: share of max_steps.",
              .bounds = between(0, 1)},
        self.warmup_ratio);
  visit(Field{.name = "decay_ratio",
              .doc = "Instead of decay_steps: share of max_steps.",
              .bounds = between(0, 1),
              .only_with = {"type", {"wsd"}}},
        self.decay_ratio);
  visit(Field{.name = "decay_type", .doc = "Shape of the decay.", .only_with = {"type", {"wsd"}}},
        self.decay_type);
  visit(Field{.name = "min_lr_ratio",
              .doc = "Learning rate at the end of the decay, as a share of the peak.",
              .bounds = between(0, 1),
              .only_with = {"type", {"wsd", "cosine", "linear"}}},
        self.min_lr_ratio);
}

// warmup_steps + decay_steps ≤ max_steps. decay_steps: wsd as given; cosine and linear all that follows
// warm-up; constant 0.
struct ResolvedSchedule {
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;
  bool shortened = false;  // what the file gives was longer than max_steps and was cut in proportion
};

// A pure function: says nothing.
ResolvedSchedule resolve_schedule(const ScheduleConfig& schedule, int64_t max_steps);

}  // namespace transxssm
