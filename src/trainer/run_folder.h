// The folder of one run: config.yaml, manifest.json, gemm.json, log.txt, metrics.jsonl, status.json,
// tensorboard/, checkpoints/.
#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "trainer/run_lock.h"
#include "trainer/status.h"

namespace transxssm {

class RunFolder {
 public:
  // Makes the folder if it is missing and locks it. Throws InputError when it is in use, a file, or not
  // writable.
  explicit RunFolder(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path log() const { return path_ / "log.txt"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path tensorboard() const { return path_ / "tensorboard"; }
  std::filesystem::path traces() const { return path_ / "trace"; }
  std::filesystem::path checkpoints() const { return checkpoints_in(path_); }
  static std::filesystem::path checkpoints_in(const std::filesystem::path& run_dir) {
    return run_dir / "checkpoints";
  }

  // Each replaces its file atomically.
  void write_config(const std::string& yaml) const;           // config.yaml: the resolved configuration
  void write_manifest(const nlohmann::json& manifest) const;  // manifest.json: versions, machine, data
  void write_gemms(const nlohmann::json& record) const;       // gemm.json: algorithms of matrix products
  void set_status(const RunStatus& status) const;             // status.json

  bool is_finished() const { return says_finished(path_ / "status.json"); }

  // Throws when another process took the folder over; see RunLock.
  void expect_held() const { lock_.expect_held(); }

 private:
  std::filesystem::path path_;
  RunLock lock_;
};

}  // namespace transxssm
