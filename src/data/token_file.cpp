// Reading of token shards: Megatron's .bin/.idx and llm.c's .bin, memory-mapped and checked as they are
// opened.
#include "data/token_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "data/token_format.h"

namespace transxssm {

namespace fs = std::filesystem;

MappedFile::MappedFile(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  expect_input(fd >= 0, concat(file.string(), ": can't be read: ", std::strerror(errno)));
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  const bool regular = known && S_ISREG(info.st_mode);
  if (regular) size_ = static_cast<size_t>(info.st_size);
  void* mapped = nullptr;
  // An empty file can't be mapped; its size alone says all there is to know.
  if (size_ > 0) mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  expect_input(regular, concat(file.string(), ": is not a file"));
  expect_input(mapped != MAP_FAILED, concat(file.string(), ": can't be mapped: ", std::strerror(error)));
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

namespace {

// The tables of an .idx are not aligned (its header has 34 bytes).
template <class T>
T load(const std::byte* table, int64_t i) {
  T value;
  std::memcpy(&value, table + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void copy_tokens(const std::byte* from, int64_t begin, std::span<int32_t> out, const std::string& file) {
  for (size_t i = 0; i < out.size(); ++i) {
    const T token = load<T>(from, begin + static_cast<int64_t>(i));
    if constexpr (sizeof(T) > 2 && !std::is_same_v<T, int32_t>) {
      const bool fits = std::in_range<int32_t>(token);
      if (!fits) {
        throw InputError(concat(file, ": token ", begin + static_cast<int64_t>(i), " is ", token,
                                ": no vocabulary has such an id; the file is damaged or holds no tokens"));
      }
    }
    // A negative id of one byte is refused where ids are checked. NOLINTNEXTLINE(bugprone-signed-char-misuse)
    out[i] = static_cast<int32_t>(token);
  }
}

}  // namespace

struct TokenFile::State {
  fs::path prefix;
  fs::path bin_path;
  fs::path idx_path;
  std::unique_ptr<MappedFile> bin;
  std::unique_ptr<MappedFile> idx;  // none for llm.c
  TokenDtype dtype = TokenDtype::u16;
  const std::byte* tokens = nullptr;
  int64_t num_tokens = 0;
  int64_t num_documents = 0;
  int64_t num_sequences = 0;
  const std::byte* lengths = nullptr;     // i32 [sequences]
  const std::byte* offsets = nullptr;     // i64 [sequences], bytes
  const std::byte* boundaries = nullptr;  // i64 [documents + 1], sequences

  void open_megatron();
  void open_llmc();
  void check_ends() const;
  int64_t sequence_begin(int64_t sequence) const;

  [[noreturn]] void bad_index(const std::string& why) const {
    throw InputError(concat(idx_path.string(), ": ", why));
  }
};

void TokenFile::State::open_megatron() {
  idx = std::make_unique<MappedFile>(idx_path);
  const std::byte* head = idx->data();
  if (idx->size() < kMegatronHeaderBytes) {
    bad_index(concat("has ", idx->size(), " bytes, fewer than the header of a Megatron index; truncated?"));
  }
  if (std::memcmp(head, kMegatronMagic.data(), kMegatronMagic.size()) != 0) {
    bad_index("is not a Megatron index (does not start with MMIDIDX)");
  }
  const auto version = load<uint64_t>(head + 9, 0);
  if (version != kMegatronVersion) bad_index(concat("has version ", version, "; version 1 can be read"));
  const auto code = std::to_integer<uint8_t>(head[17]);
  const auto known = token_dtype(code);
  if (!known)
    bad_index(concat("has dtype code ", int{code}, "; tokens must be integers (codes 1 to 5 and 8)"));
  dtype = *known;
  const auto sequences = load<uint64_t>(head + 18, 0);
  const auto borders = load<uint64_t>(head + 26, 0);
  const uint64_t room = idx->size() - kMegatronHeaderBytes;
  const bool countable = sequences <= room / 12 && borders <= room / 8;
  if (!countable || room < sequences * 12 + borders * 8) {
    bad_index(concat("has ", idx->size(), " bytes, too few for ", sequences, " sequences and ", borders,
                     " document boundaries; truncated?"));
  }
  if (room != sequences * 12 + borders * 8) {
    bad_index(concat("has ", room - sequences * 12 - borders * 8, " bytes more than ", sequences,
                     " sequences and ", borders, " document boundaries need; is it multimodal data?"));
  }
  if (borders == 0) bad_index("has no document boundaries; even an empty index has one");
  num_sequences = static_cast<int64_t>(sequences);
  num_documents = static_cast<int64_t>(borders) - 1;
  lengths = head + kMegatronHeaderBytes;
  offsets = lengths + num_sequences * 4;
  boundaries = offsets + num_sequences * 8;

  bin = std::make_unique<MappedFile>(bin_path);
  tokens = bin->data();
  num_tokens = static_cast<int64_t>(bin->size() / token_bytes(dtype));
  check_ends();
}

// What can be known in constant time: first and last entries fit each other and the size of the .bin.
void TokenFile::State::check_ends() const {
  const auto item = static_cast<int64_t>(token_bytes(dtype));
  int64_t end = 0;
  if (num_sequences > 0) {
    const auto first = load<int64_t>(offsets, 0);
    if (first != 0) bad_index(concat("puts the first sequence at byte ", first, " instead of 0"));
    const auto last = load<int64_t>(offsets, num_sequences - 1);
    const auto length = load<int32_t>(lengths, num_sequences - 1);
    if (last < 0 || length < 0) bad_index("ends in a negative offset or length; damaged");
    if (last > static_cast<int64_t>(bin->size()) || last % item != 0) {
      bad_index(concat("puts the last sequence at byte ", last, " of ", bin_path.string(), ", which has ",
                       bin->size(), " bytes; truncated, damaged or of another shard"));
    }
    end = last + int64_t{length} * item;
  }
  if (end != static_cast<int64_t>(bin->size())) {
    throw InputError(concat(bin_path.string(), ": has ", bin->size(), " bytes, but ", idx_path.string(),
                            " describes ", end, "; truncated, damaged or of another shard"));
  }
  const auto begin = load<int64_t>(boundaries, 0);
  const auto last = load<int64_t>(boundaries, num_documents);
  if (begin != 0 || last != num_sequences) {
    bad_index(concat("has documents of sequences ", begin, " to ", last, " instead of 0 to ", num_sequences,
                     "; damaged"));
  }
}

void TokenFile::State::open_llmc() {
  bin = std::make_unique<MappedFile>(bin_path);
  const std::string file = bin_path.string();
  const bool headed = bin->size() >= kLlmcHeaderBytes;
  const int32_t magic = headed ? load<int32_t>(bin->data(), 0) : 0;
  if (magic != kLlmcMagicU16 && magic != kLlmcMagicU32) {
    throw InputError(
        concat(file, ": has no .idx beside it, as Megatron shards do, and is no llm.c shard (first number ",
               kLlmcMagicU16, " or ", kLlmcMagicU32, ")"));
  }
  dtype = magic == kLlmcMagicU16 ? TokenDtype::u16 : TokenDtype::u32;
  const int32_t version = load<int32_t>(bin->data(), 1);
  const int32_t expected = magic == kLlmcMagicU16 ? 1 : 7;
  expect_input(version == expected, concat(file, ": is a llm.c shard of version ", version, "; version ",
                                           expected, " can be read"));
  num_tokens = load<int32_t>(bin->data(), 2);
  const uint64_t size = kLlmcHeaderBytes + static_cast<uint64_t>(num_tokens) * token_bytes(dtype);
  expect_input(num_tokens >= 0 && size == bin->size(),
               concat(file, ": has ", bin->size(), " bytes, but its header says ", num_tokens, " tokens (",
                      size, " bytes); truncated or damaged"));
  tokens = bin->data() + kLlmcHeaderBytes;
  num_documents = num_tokens > 0 ? 1 : 0;
}

// First token of a sequence. The tables are only read where needed, so damage is found here.
int64_t TokenFile::State::sequence_begin(int64_t sequence) const {
  if (sequence == num_sequences) return num_tokens;
  const auto item = static_cast<int64_t>(token_bytes(dtype));
  const bool exists = sequence >= 0 && sequence < num_sequences;
  if (!exists)
    bad_index(
        concat("has a document that starts at sequence ", sequence, " of ", num_sequences, "; damaged"));
  const auto offset = load<int64_t>(offsets, sequence);
  if (offset < 0 || offset % item != 0 || offset / item > num_tokens) {
    bad_index(
        concat("puts sequence ", sequence, " at byte ", offset, " of ", num_tokens * item, "; damaged"));
  }
  return offset / item;
}

TokenFile::TokenFile(const fs::path& prefix) {
  auto state = std::make_shared<State>();
  const ShardPaths paths = shard_paths(prefix);
  state->prefix = paths.prefix;
  state->bin_path = paths.bin;
  state->idx_path = paths.idx;
  if (paths.idx.empty()) {
    state->open_llmc();
  } else {
    state->open_megatron();
  }
  state_ = std::move(state);
}

int64_t TokenFile::num_tokens() const { return state_->num_tokens; }
int64_t TokenFile::num_documents() const { return state_->num_documents; }
const fs::path& TokenFile::prefix() const { return state_->prefix; }
const fs::path& TokenFile::bin_path() const { return state_->bin_path; }

int64_t TokenFile::document_begin(int64_t document) const {
  const State& s = *state_;
  expect(document >= 0 && document <= s.num_documents, concat("no document ", document));
  if (document == s.num_documents) return s.num_tokens;
  if (s.boundaries == nullptr) return 0;
  return s.sequence_begin(load<int64_t>(s.boundaries, document));
}

int64_t TokenFile::document_of(int64_t token) const {
  expect(token >= 0 && token < state_->num_tokens, concat("no token ", token));
  // The last document that begins at or before `token`: documents without tokens begin where the next one
  // does.
  int64_t low = 0;
  int64_t high = state_->num_documents;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (document_begin(middle) <= token ? low : high) = middle;
  }
  return low;
}

void TokenFile::read(int64_t begin, std::span<int32_t> out) const {
  const State& s = *state_;
  const auto count = static_cast<int64_t>(out.size());
  expect(begin >= 0 && count <= s.num_tokens && begin <= s.num_tokens - count,
         concat("no tokens ", begin, " to ", begin + count));
  const std::string file = s.bin_path.string();
  switch (s.dtype) {
    case TokenDtype::u8:
      return copy_tokens<uint8_t>(s.tokens, begin, out, file);
    case TokenDtype::i8:
      return copy_tokens<int8_t>(s.tokens, begin, out, file);
    case TokenDtype::i16:
      return copy_tokens<int16_t>(s.tokens, begin, out, file);
    case TokenDtype::i32:
      return copy_tokens<int32_t>(s.tokens, begin, out, file);
    case TokenDtype::i64:
      return copy_tokens<int64_t>(s.tokens, begin, out, file);
    case TokenDtype::u16:
      return copy_tokens<uint16_t>(s.tokens, begin, out, file);
    case TokenDtype::u32:
      return copy_tokens<uint32_t>(s.tokens, begin, out, file);
  }
}

void TokenFile::verify_index() const {
  const State& s = *state_;
  if (!s.idx) return;
  const auto item = static_cast<int64_t>(token_bytes(s.dtype));
  int64_t expected = 0;
  for (int64_t i = 0; i < s.num_sequences; ++i) {
    const auto offset = load<int64_t>(s.offsets, i);
    const auto length = load<int32_t>(s.lengths, i);
    if (offset != expected)
      s.bad_index(concat("puts sequence ", i, " at byte ", offset, " instead of ", expected));
    if (length < 0) s.bad_index(concat("gives sequence ", i, " the length ", length));
    expected += int64_t{length} * item;
  }
  for (int64_t d = 0; d < s.num_documents; ++d) {
    const auto begin = load<int64_t>(s.boundaries, d);
    const auto end = load<int64_t>(s.boundaries, d + 1);
    if (end < begin)
      s.bad_index(concat("ends document ", d, " at sequence ", end, ", before its start ", begin));
  }
}

}  // namespace transxssm
