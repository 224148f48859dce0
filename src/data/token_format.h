// Constants of the token file formats and how a shard's files are named; shared by reader and writer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

namespace transxssm {

// Megatron's .idx (core/datasets/indexed_dataset.py).
inline constexpr std::array<char, 9> kMegatronMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
inline constexpr uint64_t kMegatronVersion = 1;
inline constexpr size_t kMegatronHeaderBytes = 34;

// llm.c's .bin (dev/data/data_common.py): 256 i32 (magic, version, tokens), then u16, or u32 for Llama-3 ids.
inline constexpr int32_t kLlmcMagicU16 = 20240520;
inline constexpr int32_t kLlmcMagicU32 = 20240801;
inline constexpr size_t kLlmcHeaderBytes = 1024;

// Values are Megatron's dtype codes; u32 occurs in llm.c files only.
enum class TokenDtype : uint8_t { u8 = 1, i8 = 2, i16 = 3, i32 = 4, i64 = 5, u16 = 8, u32 = 255 };

// Nothing for codes that are no integers (6 and 7 are floats).
inline std::optional<TokenDtype> token_dtype(uint8_t code) {
  const bool known = (code >= 1 && code <= 5) || code == 8;
  return known ? std::optional(static_cast<TokenDtype>(code)) : std::nullopt;
}

inline size_t token_bytes(TokenDtype dtype) {
  switch (dtype) {
    case TokenDtype::u8:
    case TokenDtype::i8:
      return 1;
    case TokenDtype::i16:
    case TokenDtype::u16:
      return 2;
    case TokenDtype::i32:
    case TokenDtype::u32:
      return 4;
    case TokenDtype::i64:
      return 8;
  }
  return 0;
}

// The files of a shard named by its prefix, its .bin or its .idx. `idx` is empty for a .bin that has none
// beside it (llm.c), whose prefix is the .bin itself.
struct ShardPaths {
  std::filesystem::path prefix;
  std::filesystem::path bin;
  std::filesystem::path idx;
};
ShardPaths shard_paths(const std::filesystem::path& name);

}  // namespace transxssm
