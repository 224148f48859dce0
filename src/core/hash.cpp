#include "core/hash.h"

#include <cstdio>
#include <fstream>
#include <memory>
#include <vector>

#include <xxhash.h>

#include "core/check.h"

namespace transxssm {
namespace {

std::string hex(XXH128_hash_t hash) {
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

}  // namespace

std::string hash_bytes(const void* data, size_t size) { return hex(XXH3_128bits(data, size)); }

std::string hash_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  expect_input(in.good(), concat("cannot read ", file));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(size_t{1} << 20);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), in.gcount() > 0)
    XXH3_128bits_update(state.get(), buffer.data(), static_cast<size_t>(in.gcount()));
  expect_input(!in.bad(), concat("reading ", file, " failed"));
  return hex(XXH3_128bits_digest(state.get()));
}

uint64_t hash_name(const std::string& name, uint64_t seed) {
  return XXH3_64bits_withSeed(name.data(), name.size(), seed);
}

}  // namespace transxssm
