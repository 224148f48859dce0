#include "trainer/run_folder.h"

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

fs::path made(const fs::path& path) {
  expect_input(!path.empty(), "train.run_dir is empty; name a folder for the run, for example runs/first");
  make_folders(path);
  return path;
}

}  // namespace

RunFolder::RunFolder(const fs::path& path) : path_(made(path)), lock_(path_ / "lock") {
  make_folders(tensorboard());
  make_folders(checkpoints());
}

void RunFolder::write_config(const std::string& yaml) const {
  expect_held();
  write_file_atomically(path_ / "config.yaml", yaml);
}

void RunFolder::write_manifest(const nlohmann::json& manifest) const {
  expect_held();
  const auto replace = nlohmann::json::error_handler_t::replace;
  write_file_atomically(path_ / "manifest.json", manifest.dump(2, ' ', false, replace) + "\n");
}

void RunFolder::write_gemms(const nlohmann::json& record) const {
  expect_held();
  write_file_atomically(path_ / "gemm.json", record.dump(2) + "\n");
}

void RunFolder::set_status(const RunStatus& status) const {
  expect_held();
  write_status(path_ / "status.json", status);
}

}  // namespace transxssm
