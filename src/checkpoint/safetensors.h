// Reading and writing safetensors files (https://github.com/huggingface/safetensors): 8 bytes header length,
// a JSON header {name: {dtype, shape, data_offsets}}, then the tensors' bytes, little-endian, without gaps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace transxssm {

// "BF16" for at::kBFloat16 and so on. Throws std::runtime_error for a type that the format doesn't have.
std::string safetensors_dtype(at::ScalarType type);
// The other way; InputError for an unknown name.
at::ScalarType safetensors_type(const std::string& dtype);

// A tensor that is made when its turn comes, so that only one exists at a time.
struct TensorToWrite {
  std::string name;
  at::ScalarType type;
  std::vector<int64_t> shape;
  std::function<at::Tensor()> make;
};

// Writes `tensors` in the order given; larger elements first keeps every tensor aligned. Any device and
// strides: one tensor at a time is brought to contiguous CPU memory, and `on_bytes` sees it just before it is
// written. The file is synced to disk when this returns.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
using OnBytes = std::function<void(const std::string& name, const void* data, size_t size)>;
void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                       const OnBytes& on_bytes = {});
void write_safetensors_as_made(const std::filesystem::path& file, const std::vector<TensorToWrite>& tensors,
                               const OnBytes& on_bytes = {});

// An open file. The header is checked as a whole on opening; damage is an InputError that names file and
// tensor.
class SafetensorsFile {
 public:
  struct Entry {
    at::ScalarType type;
    std::vector<int64_t> shape;
    uint64_t begin;  // offset in the file
    uint64_t size;   // bytes
  };

  explicit SafetensorsFile(std::filesystem::path file);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::filesystem::path& path() const { return file_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const Entry& entry(const std::string& name) const;  // throws InputError when there is none

  // The tensor in memory of its own, on the CPU.
  at::Tensor read(const std::string& name) const;
  // `size` of its bytes, from byte `begin` of it on.
  void read_bytes_of(const std::string& name, uint64_t begin, uint64_t size, void* to) const;

 private:
  [[noreturn]] void damaged(const std::string& why) const;
  void parse_header(const std::string& text, uint64_t data_begin, uint64_t data_size);
  void read_bytes(void* to, uint64_t size, uint64_t offset, const std::string& what) const;

  std::filesystem::path file_;
  int descriptor_ = -1;
  std::map<std::string, Entry> entries_;
};

}  // namespace transxssm
