// Shards and other token files for the tests of token files, loader and validation sets.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "core/check.h"
#include "data/token_file.h"
#include "support/temp_folder.h"

namespace transxssm::fixtures {

namespace fs = std::filesystem;

using test::input_error_of;
using test::TempFolder;

using Documents = std::vector<std::vector<int32_t>>;

inline void write_shard(const fs::path& prefix, const Documents& documents, int64_t vocab_size = 60000) {
  TokenFileWriter writer(prefix, vocab_size);
  for (const auto& document : documents) writer.add_document(document);
  writer.finish();
}

// `count` tokens that name their place: first, first + 1, …
inline std::vector<int32_t> numbered(int64_t count, int32_t first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// Little-endian bytes, put together by hand.
struct Bytes {
  std::string data;
  template <class T>
  Bytes& put(T value) {
    data.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  void save(const fs::path& file) const {
    std::ofstream out(file, std::ios::binary);
    out.write(data.data(), static_cast<std::streamsize>(data.size()));
    expect(out.good(), "can't write " + file.string());
  }
};

// An .idx from its tables as they are to lie in the file, right or wrong.
inline Bytes megatron_index(uint8_t dtype, const std::vector<int32_t>& lengths,
                            const std::vector<int64_t>& offsets, const std::vector<int64_t>& boundaries) {
  Bytes idx;
  idx.data.assign("MMIDIDX\0\0", 9);
  idx.put(uint64_t{1}).put(dtype).put(uint64_t{lengths.size()}).put(uint64_t{boundaries.size()});
  for (const int32_t length : lengths) idx.put(length);
  for (const int64_t offset : offsets) idx.put(offset);
  for (const int64_t boundary : boundaries) idx.put(boundary);
  return idx;
}

inline void write_llmc(const fs::path& file, const std::vector<int32_t>& tokens, int32_t magic = 20240520,
                       int32_t version = 1) {
  Bytes bin;
  bin.put(magic).put(version).put(static_cast<int32_t>(tokens.size()));
  bin.data.resize(1024, '\0');
  for (const int32_t token : tokens) {
    if (magic == 20240801) {
      bin.put(static_cast<uint32_t>(token));
    } else {
      bin.put(static_cast<uint16_t>(token));
    }
  }
  bin.save(file);
}

inline std::vector<int32_t> read_all(const TokenFile& file) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.num_tokens()));
  file.read(0, tokens);
  return tokens;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace transxssm::fixtures
