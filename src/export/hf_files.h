// The Python files of an exported folder, src/export/hf/*.py, as part of the program.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace transxssm {

struct EmbeddedFile {
  std::string name;
  std::string_view text;
};

const std::vector<EmbeddedFile>& hf_files();

}  // namespace transxssm
