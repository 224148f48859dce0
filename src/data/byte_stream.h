// Bytes of a file or of standard input, decompressed on the way when they are gzip or zstd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace transxssm {

class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // Up to `size` bytes; fewer than `size` only at the end. Throws InputError, naming the file, when it can't
  // be read, is truncated or corrupt.
  virtual size_t read(char* out, size_t size) = 0;

  // Bytes taken from the file so far, before decompression.
  virtual uint64_t consumed() const = 0;
};

// Opens `path` ("-" is standard input; `name` is how messages call it). What is compressed is known by its
// first bytes; a file named .gz or .zst that does not start like one is refused.
std::unique_ptr<ByteStream> open_byte_stream(const std::filesystem::path& path, const std::string& name);

}  // namespace transxssm
