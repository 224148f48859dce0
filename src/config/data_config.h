// Training and validation data (keys under `data:`).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace transxssm {

enum class Packing { isolated, concatenated };

struct TrainSource {
  std::string path;
  std::optional<double> weight;
};

struct ValidationSource {
  std::string name;
  std::string path;
};

struct DataConfig {
  std::string tokenizer;
  std::vector<TrainSource> train;
  std::vector<ValidationSource> validation;
  std::vector<double> split;
  Packing packing = Packing::isolated;
  int64_t eod_id = -1;
  uint64_t seed = 1;
};

}  // namespace transxssm
