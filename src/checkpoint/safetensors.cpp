#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include <ATen/ops/empty.h>

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr uint64_t kMaxHeader = 100'000'000;  // bytes, the limit of the reference implementation

constexpr std::array<std::pair<const char*, at::ScalarType>, 10> kTypes{{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"BF16", at::kBFloat16},
    {"F16", at::kHalf},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
}};

// Bytes of a tensor with this shape, or -1 when the shape is negative or overflows.
int64_t byte_count(const std::vector<int64_t>& shape, at::ScalarType type) {
  int64_t size = static_cast<int64_t>(c10::elementSize(type));
  for (const int64_t length : shape)
    if (length < 0 || __builtin_mul_overflow(size, length, &size)) return -1;
  return size;
}

std::string header_text(const std::vector<TensorToWrite>& tensors) {
  json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const uint64_t end = offset + static_cast<uint64_t>(byte_count(tensor.shape, tensor.type));
    expect(!header.contains(tensor.name), concat("two tensors named ", tensor.name));
    header[tensor.name] = {
        {"dtype", safetensors_dtype(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data starts at a multiple of 8 bytes
  return text;
}

}  // namespace

std::string safetensors_dtype(at::ScalarType type) {
  for (const auto& [name, known] : kTypes)
    if (known == type) return name;
  throw std::runtime_error(concat("safetensors files can't hold tensors of type ", c10::toString(type)));
}

at::ScalarType safetensors_type(const std::string& dtype) {
  for (const auto& [name, type] : kTypes)
    if (name == dtype) return type;
  throw InputError(concat("the tensor type ", dtype, " is not supported"));
}

void write_safetensors_as_made(const fs::path& file, const std::vector<TensorToWrite>& tensors,
                               const OnBytes& on_bytes) {
  const std::string header = header_text(tensors);
  const uint64_t header_size = header.size();
  OutputFile out(file, OutputFile::Mode::replace);
  out.write(&header_size, sizeof header_size);
  out.write(header);
  for (const TensorToWrite& tensor : tensors) {
    const at::Tensor made = tensor.make();
    expect(made.scalar_type() == tensor.type && made.sizes() == tensor.shape,
           concat("tensor ", tensor.name, " is not what its header says"));
    const at::Tensor bytes = made.detach().to(at::kCPU).contiguous();
    if (on_bytes) on_bytes(tensor.name, bytes.const_data_ptr(), bytes.nbytes());
    out.write(bytes.const_data_ptr(), bytes.nbytes());
  }
  out.sync();
  out.close();
}

void write_safetensors(const fs::path& file, const NamedTensors& tensors, const OnBytes& on_bytes) {
  std::vector<TensorToWrite> listed;
  for (const auto& [name, tensor] : tensors)
    listed.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), [held = tensor] { return held; }});
  write_safetensors_as_made(file, listed, on_bytes);
}

SafetensorsFile::SafetensorsFile(fs::path file) : file_(std::move(file)) {
  descriptor_ = ::open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw_file_error("cannot read", file_, errno);
  try {
    struct stat info {};
    if (::fstat(descriptor_, &info) != 0) throw_file_error("cannot read", file_, errno);
    expect_input(S_ISREG(info.st_mode), concat("cannot read ", file_.string(), ": it is not a file"));
    const auto file_size = static_cast<uint64_t>(info.st_size);
    if (file_size < 8) damaged(concat("it has only ", file_size, " bytes"));
    uint64_t header_size = 0;
    read_bytes(&header_size, sizeof header_size, 0, "the header");
    if (header_size > kMaxHeader || header_size > file_size - 8)
      damaged(concat("its header claims ", header_size, " bytes, the file has ", file_size));
    std::string text(header_size, '\0');
    read_bytes(text.data(), header_size, 8, "the header");
    parse_header(text, 8 + header_size, file_size - 8 - header_size);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() { ::close(descriptor_); }

void SafetensorsFile::damaged(const std::string& why) const {
  throw InputError(concat(file_.string(), " is not a whole safetensors file: ", why));
}

void SafetensorsFile::parse_header(const std::string& text, uint64_t data_begin, uint64_t data_size) {
  const json header = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) damaged("its header is not JSON");
  uint64_t total = 0;
  for (const auto& [name, fields] : header.items()) {
    if (name == "__metadata__") continue;
    const auto bad = [&, &tensor = name](const std::string& why) {
      damaged(concat("tensor ", tensor, ": ", why));
    };
    try {
      const auto dtype = fields.at("dtype").get<std::string>();
      const auto* type =
          std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& known) { return known.first == dtype; });
      if (type == kTypes.end()) bad(concat("its type ", dtype, " is not supported"));
      const auto offsets = fields.at("data_offsets").get<std::array<uint64_t, 2>>();
      Entry entry{type->second, fields.at("shape").get<std::vector<int64_t>>(), data_begin + offsets[0],
                  offsets[1] - offsets[0]};
      if (offsets[0] > offsets[1] || offsets[1] > data_size)
        bad(concat("its bytes [", offsets[0], ", ", offsets[1], ") lie outside the data of ", data_size,
                   " bytes"));
      if (byte_count(entry.shape, entry.type) != static_cast<int64_t>(entry.size))
        bad(concat("its shape does not fit its ", entry.size, " bytes"));
      total += entry.size;
      entries_.emplace(name, std::move(entry));
    } catch (const json::exception&) {
      bad("its header entry is damaged");
    }
  }
  if (total != data_size) damaged(concat("its tensors have ", total, " bytes, the file has ", data_size));
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  expect_input(found != entries_.end(), concat(file_.string(), " has no tensor ", name));
  return found->second;
}

at::Tensor SafetensorsFile::read(const std::string& name) const {
  const Entry& wanted = entry(name);
  at::Tensor tensor = at::empty(wanted.shape, wanted.type);
  read_bytes_of(name, 0, wanted.size, tensor.mutable_data_ptr());
  return tensor;
}

void SafetensorsFile::read_bytes_of(const std::string& name, uint64_t begin, uint64_t size, void* to) const {
  const Entry& wanted = entry(name);
  expect(begin <= wanted.size && size <= wanted.size - begin,
         concat("bytes [", begin, ", ", begin + size, ") of tensor ", name, ", which has ", wanted.size));
  read_bytes(to, size, wanted.begin + begin, concat("tensor ", name));
}

void SafetensorsFile::read_bytes(void* to, uint64_t size, uint64_t offset, const std::string& what) const {
  char* next = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t got = ::pread(descriptor_, next, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_file_error(concat("cannot read ", what, " of"), file_, errno);
    if (got == 0) damaged(concat("it ends within ", what));
    next += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<uint64_t>(got);
  }
}

}  // namespace transxssm
