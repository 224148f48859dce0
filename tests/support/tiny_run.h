// A temporary folder with token files and a configuration that trains a tiny model on them in a second.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "config/run_config.h"
#include "core/rng.h"
#include "data/token_file.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace transxssm::test {

struct TinyRun {
  TinyRun() {
    write_tokens("train", 1, 60);
    write_tokens("validation", 2, 8);
  }

  // Documents of 1 to 60 tokens that count upwards with random steps: learnable, and different in every
  // document.
  void write_tokens(const std::string& name, uint64_t seed, int documents) const {
    TokenFileWriter writer(folder / name, 61);
    const Philox random(seed);
    for (int d = 0; d < documents; ++d) {
      const auto block = random.block(static_cast<uint64_t>(d));
      std::vector<int32_t> tokens{1};
      for (uint32_t i = 0; i < block[0] % 60; ++i)
        tokens.push_back(static_cast<int32_t>(4 + (block[1] + i * (1 + block[2] % 3)) % 57));
      tokens.push_back(2);
      writer.add_document(tokens);
    }
    writer.finish();
  }

  RunConfig config(const std::string& run_name = "run", const std::string& architecture = "transxssm") const {
    RunConfig c;
    c.model = tiny_config(architecture);
    c.model.init_std = 0.05;
    c.data.train = {{(folder / "train").string(), std::nullopt}};
    c.data.validation = {{"heldout", (folder / "validation").string()}};
    c.data.eod_id = 2;
    c.train.run_dir = (folder / run_name).string();
    c.train.seq_len = 24;
    c.train.global_batch_size = 4;
    c.train.micro_batch_size = 2;
    c.train.max_steps = 8;
    c.train.device = Device::cpu;
    c.optimizer.lr = 3e-3;
    c.schedule.warmup_steps = 2;
    c.schedule.decay_steps = 2;
    c.checkpoint.every = 1000;
    c.validation.every = 4;
    c.validation.sequences = 4;
    c.logging.every = 1;
    return c;
  }

  TempFolder folder;
};

// Rows of metrics.jsonl, without the keys that measure time or memory.
inline std::vector<nlohmann::json> metric_rows(const std::string& run_dir) {
  std::vector<nlohmann::json> rows;
  std::ifstream in(std::filesystem::path(run_dir) / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    auto row = nlohmann::json::parse(line);
    for (const char* key :
         {"step_time_seconds", "elapsed_seconds", "tokens_per_second", "tokens_per_second_per_gpu",
          "tflops_per_gpu", "mfu", "memory_peak_gib", "data_wait_seconds"})
      row.erase(key);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace transxssm::test
