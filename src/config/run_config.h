// One run: everything a YAML file says. Each struct is one section of the file.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "config/data_config.h"
#include "config/fields.h"
#include "config/model_config.h"
#include "config/optim_config.h"
#include "config/parallel_config.h"

namespace transxssm {

enum class ComputeDtype { bf16, fp32 };
enum class Device { automatic, cpu, cuda };
enum class KernelChoice { automatic, reference };

constexpr auto enum_names(ComputeDtype) {
  return std::to_array<EnumName<ComputeDtype>>({{ComputeDtype::bf16, "bf16"}, {ComputeDtype::fp32, "fp32"}});
}
constexpr auto enum_names(Device) {
  return std::to_array<EnumName<Device>>(
      {{Device::automatic, "auto"}, {Device::cpu, "cpu"}, {Device::cuda, "cuda"}});
}
constexpr auto enum_names(KernelChoice) {
  return std::to_array<EnumName<KernelChoice>>(
      {{KernelChoice::automatic, "auto"}, {KernelChoice::reference, "reference"}});
}

struct TrainConfig {
  std::string run_dir;
  int64_t seq_len = 4096;
  int64_t global_batch_size = 512;
  int64_t micro_batch_size = 8;
  int64_t max_steps = 32000;
  double max_minutes = 0;
  int64_t stop_exit_code = 75;
  uint64_t seed = 1;
  bool deterministic = true;
  Recompute recompute = Recompute::none;
  double z_loss = 0.0;
  int64_t max_skipped_in_row = 10;
  Device device = Device::automatic;
  bool operator==(const TrainConfig&) const = default;
};

template <SelfOf<TrainConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "run_dir",
              .doc = "Folder of the run: config, log, metrics, checkpoints.",
              .path = true,
              .required = true},
        self.run_dir);
  visit(Field{.name = "seq_len",
              .doc = "Length of a window.",
              .unit = "tokens",
              .bounds = between(1, 16777216),
              .effect = Effect::mathematics},
        self.seq_len);
  visit(Field{.name = "global_batch_size",
              .doc = "Sequences of an optimizer step; a multiple of micro_batch_size.",
              .unit = "sequences",
              .bounds = between(1, 16777216),
              .effect = Effect::mathematics},
        self.global_batch_size);
  visit(Field{.name = "micro_batch_size",
              .doc = "Sequences of a forward and backward pass. Changes memory and speed, not the loss.",
              .unit = "sequences",
              .bounds = between(1, 65536)},
        self.micro_batch_size);
  visit(Field{.name = "max_steps",
              .doc = "Optimizer steps of the whole run. A resumed run may raise it before the decay has "
                     "begun; a warm-up that is over then stays as it was.",
              .unit = "steps",
              .bounds = between(1, 1e12)},
        self.max_steps);
  visit(Field{.name = "max_minutes",
              .doc = "Save and stop after this time; 0 for no limit.",
              .unit = "minutes",
              .bounds = between(0, 1e7)},
        self.max_minutes);
  visit(Field{.name = "stop_exit_code",
              .doc = "Exit code when stopped early with everything saved; not 1 (failure) or 2 (bad input).",
              .bounds = between(0, 255)},
        self.stop_exit_code);
  visit(Field{.name = "seed", .doc = "Initial values.", .effect = Effect::mathematics}, self.seed);
  visit(Field{.name = "deterministic", .doc = "The same bits in every run on the same device."},
        self.deterministic);
  visit(Field{.name = "recompute",
              .doc = "selective keeps no normed values: the norms' backward pass writes them once more. full "
                     "keeps only each block's input and computes the rest again. Both change memory and "
                     "speed, not a bit of the result."},
        self.recompute);
  visit(Field{.name = "z_loss",
              .doc = "Weight of log²Z in the objective; the logged loss is without it.",
              .bounds = between(0, 1),
              .effect = Effect::mathematics},
        self.z_loss);
  visit(Field{.name = "max_skipped_in_row",
              .doc = "Stop after more than this many consecutive steps with a non-finite loss or norm.",
              .unit = "steps",
              .bounds = between(0, 1e9)},
        self.max_skipped_in_row);
  visit(Field{.name = "device", .doc = "auto: a GPU where there is one."}, self.device);
}

struct PrecisionConfig {
  ComputeDtype compute = ComputeDtype::bf16;  // on CUDA; on a CPU everything is fp32
  bool operator==(const PrecisionConfig&) const = default;
};

template <SelfOf<PrecisionConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "compute", .doc = "Matrices and activations on CUDA; on a CPU everything is fp32."},
        self.compute);
}

struct KernelsConfig {
  KernelChoice ssd = KernelChoice::automatic;
  KernelChoice attention = KernelChoice::automatic;
  bool cuda_graphs = true;
  bool operator==(const KernelsConfig&) const = default;
};

template <SelfOf<KernelsConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "ssd",
              .doc = "The SSD scan. auto: the fastest path of the device, named at the start; reference: "
                     "LibTorch. Changes speed and rounding, not the function."},
        self.ssd);
  visit(Field{.name = "attention",
              .doc = "Attention. auto: the fastest path of the device, named at the start; reference: "
                     "LibTorch. Changes speed and rounding, not the function."},
        self.attention);
  visit(Field{.name = "cuda_graphs",
              .doc = "On a GPU: record a step's work once and replay it, which spares the host. false: queue "
                     "each operation anew. Same bits."},
        self.cuda_graphs);
}

struct CheckpointConfig {
  int64_t every = 1000;
  int64_t keep_last = 3;
  int64_t keep_every = 0;
  bool operator==(const CheckpointConfig&) const = default;
};

template <SelfOf<CheckpointConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(
      Field{.name = "every", .doc = "Save after so many steps.", .unit = "steps", .bounds = between(1, 1e12)},
      self.every);
  visit(Field{.name = "keep_last", .doc = "Newest checkpoints that are kept.", .bounds = between(1, 1e9)},
        self.keep_last);
  visit(Field{.name = "keep_every",
              .doc = "Checkpoints of steps divisible by this are kept for good; 0 for none.",
              .unit = "steps",
              .bounds = between(0, 1e12)},
        self.keep_every);
}

struct ValidationConfig {
  int64_t every = 500;
  int64_t sequences = 512;
  bool operator==(const ValidationConfig&) const = default;
};

template <SelfOf<ValidationConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "every",
              .doc = "Validate after so many steps.",
              .unit = "steps",
              .bounds = between(1, 1e12)},
        self.every);
  visit(Field{.name = "sequences",
              .doc = "Windows of each set, always the same ones.",
              .unit = "sequences",
              .bounds = between(1, 1e9)},
        self.sequences);
}

struct LoggingConfig {
  int64_t every = 10;
  bool tensorboard = true;
  bool operator==(const LoggingConfig&) const = default;
};

template <SelfOf<LoggingConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(
      Field{
          .name = "every", .doc = "A line after so many steps.", .unit = "steps", .bounds = between(1, 1e12)},
      self.every);
  visit(Field{.name = "tensorboard", .doc = "Write TensorBoard event files too."}, self.tensorboard);
}

struct TraceConfig {
  std::vector<int64_t> steps;
  bool operator==(const TraceConfig&) const = default;
};

template <SelfOf<TraceConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "steps",
              .doc = "Steps of which a Chrome trace is written to trace/ in the run folder; each waits for "
                     "the device before and after.",
              .bounds = between(1, 1e12)},
        self.steps);
}

struct RunConfig {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  PrecisionConfig precision;
  KernelsConfig kernels;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  ValidationConfig validation;
  LoggingConfig logging;
  TraceConfig trace;
  bool operator==(const RunConfig&) const = default;
};

template <SelfOf<RunConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "model", .doc = "The network.", .effect = Effect::mathematics}, self.model);
  visit(Field{.name = "data", .doc = "Training and validation data."}, self.data);
  visit(Field{.name = "train", .doc = "The run."}, self.train);
  visit(Field{.name = "optimizer", .doc = "The optimizer.", .effect = Effect::mathematics}, self.optimizer);
  visit(Field{.name = "schedule", .doc = "The learning rate.", .effect = Effect::mathematics}, self.schedule);
  visit(Field{.name = "precision", .doc = "Number formats.", .effect = Effect::mathematics}, self.precision);
  visit(Field{.name = "kernels", .doc = "Which implementation runs where there are several."}, self.kernels);
  visit(Field{.name = "parallel", .doc = "How several ranks train together."}, self.parallel);
  visit(Field{.name = "checkpoint", .doc = "When to save and what to keep."}, self.checkpoint);
  visit(Field{.name = "validation", .doc = "When to validate."}, self.validation);
  visit(Field{.name = "logging", .doc = "What is written on the way."}, self.logging);
  visit(Field{.name = "trace", .doc = "Where the time of single steps goes."}, self.trace);
}

}  // namespace transxssm
