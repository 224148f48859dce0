// JSON files, read whole.
#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

namespace transxssm {

// Throws InputError naming the file when it can't be read or is not JSON.
nlohmann::json read_json(const std::filesystem::path& file);

}  // namespace transxssm
