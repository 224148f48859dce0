// Which shards a data path of the configuration stands for.
#include <algorithm>

#include <glob.h>

#include "core/check.h"
#include "data/token_file.h"
#include "data/token_format.h"

namespace transxssm {

namespace fs = std::filesystem;

namespace {

// Extensions are appended, not replaced: a prefix may hold dots ("shard.0001").
fs::path with_extension(const fs::path& prefix, const char* extension) { return prefix.string() + extension; }

bool is_shard_file(const fs::path& file) {
  return (file.extension() == ".bin" || file.extension() == ".idx") && fs::is_regular_file(file);
}

void add_folder(const fs::path& folder, std::vector<fs::path>& prefixes) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (is_shard_file(entry.path())) prefixes.push_back(shard_paths(entry.path()).prefix);
  }
  expect_input(!error, concat(folder.string(), ": can't be read: ", error.message()));
}

void add_glob(const std::string& pattern, std::vector<fs::path>& prefixes) {
  glob_t found{};
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) {
      const fs::path match = found.gl_pathv[i];
      if (fs::is_directory(match)) {
        add_folder(match, prefixes);
      } else if (is_shard_file(match)) {
        prefixes.push_back(shard_paths(match).prefix);
      }
    }
  }
  ::globfree(&found);
}

}  // namespace

ShardPaths shard_paths(const fs::path& name) {
  if (name.extension() == ".idx" || name.extension() == ".bin") {
    const fs::path prefix = name.parent_path() / name.stem();
    const bool indexed = name.extension() == ".idx" || fs::exists(with_extension(prefix, ".idx"));
    if (indexed) return {prefix, with_extension(prefix, ".bin"), with_extension(prefix, ".idx")};
    return {name, name, {}};
  }
  return {name, with_extension(name, ".bin"), with_extension(name, ".idx")};
}

std::vector<fs::path> find_token_files(const std::string& path) {
  std::vector<fs::path> prefixes;
  if (fs::is_directory(path)) {
    add_folder(path, prefixes);
  } else if (is_shard_file(path) || fs::exists(with_extension(path, ".idx")) ||
             fs::exists(with_extension(path, ".bin"))) {
    prefixes.push_back(shard_paths(path).prefix);
  } else {
    add_glob(path, prefixes);
  }
  expect_input(
      !prefixes.empty(),
      concat(path,
             ": no token files found; give a folder of shards, a glob, or the path of a shard without "
             "its .bin and .idx (transxssm data prepare makes them)"));
  std::sort(prefixes.begin(), prefixes.end());
  prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
  return prefixes;
}

}  // namespace transxssm
