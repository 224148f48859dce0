#include "export/json_file.h"

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {

nlohmann::json read_json(const std::filesystem::path& file) {
  auto tree = nlohmann::json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  expect_input(!tree.is_discarded(), concat(file.string(), ": is not JSON"));
  return tree;
}

}  // namespace transxssm
