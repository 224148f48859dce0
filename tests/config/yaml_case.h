// Configurations written for one test.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "config/load.h"
#include "support/temp_folder.h"

namespace transxssm::test {

// The smallest valid file: five lines.
inline const char* const kMinimal = R"(train:
  run_dir: runs/x
data:
  tokenizer: t.model
  train: [{path: p}]
)";

// Loads `text` as the file FOLDER/c.yaml.
inline RunConfig load_text(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const TempFolder folder;
  const auto file = folder / "c.yaml";
  std::ofstream(file, std::ios::binary) << text;
  return load_config(file, overrides);
}

// The message with which that is refused; empty when it loads.
inline std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return input_error_of([&] { load_text(text, overrides); });
}

}  // namespace transxssm::test
