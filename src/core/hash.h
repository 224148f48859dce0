// XXH3 checksums as lower-case hex: fast enough to always be on; not cryptographic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace transxssm {

// 128-bit XXH3 of a byte range: 32 hex digits.
std::string hash_bytes(const void* data, size_t size);

// The same of a whole file, streamed. Throws InputError when it can't be read.
std::string hash_file(const std::filesystem::path& file);

// 64-bit XXH3 of a name, for seeding (core/rng.h).
uint64_t hash_name(const std::string& name, uint64_t seed);

}  // namespace transxssm
