// One run: everything a YAML file says. Each struct is one section of the file.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "config/data_config.h"
#include "config/model_config.h"

namespace transxssm {

enum class Recompute { none, full };
enum class ScheduleType { wsd, cosine, linear, constant };
enum class DecayType { linear, cosine, sqrt };
enum class ComputeDtype { bf16, fp32 };
enum class Device { automatic, cpu, cuda };
enum class OptimizerType { adamw };

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
};

struct OptimizerConfig {
  OptimizerType type = OptimizerType::adamw;
  double lr = 2e-3;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool decay_embeddings = false;
  double max_grad_norm = 1.0;
};

struct ScheduleConfig {
  ScheduleType type = ScheduleType::wsd;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;
  double warmup_ratio = 0;
  double decay_ratio = 0;
  DecayType decay_type = DecayType::linear;
  double min_lr_ratio = 0.0;
};

struct PrecisionConfig {
  ComputeDtype compute = ComputeDtype::bf16;  // on CUDA; on a CPU everything is fp32
};

struct CheckpointConfig {
  int64_t every = 1000;
  int64_t keep_last = 3;
  int64_t keep_every = 0;
};

struct ValidationConfig {
  int64_t every = 500;
  int64_t sequences = 512;
};

struct LoggingConfig {
  int64_t every = 10;
  bool tensorboard = true;
};

struct RunConfig {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  PrecisionConfig precision;
  CheckpointConfig checkpoint;
  ValidationConfig validation;
  LoggingConfig logging;
};

}  // namespace transxssm
