// Writing of token shards in Megatron's format: durable and complete, or not there.
#include <cerrno>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <unistd.h>

#include "core/check.h"
#include "data/token_file.h"
#include "data/token_format.h"

namespace transxssm {

namespace fs = std::filesystem;

namespace {

constexpr size_t kBufferBytes = 1 << 20;

// A file under a temporary name with a write buffer. Removed again unless it was put in place.
class TemporaryFile {
 public:
  explicit TemporaryFile(const fs::path& target) : target_(target), temporary_(target.string() + ".tmp") {
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail();
    buffer_.reserve(kBufferBytes);
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!in_place_) ::unlink(temporary_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  template <class T>
  void put(T value) {
    if (buffer_.size() + sizeof(T) > kBufferBytes) flush();
    const auto* bytes = reinterpret_cast<const char*>(&value);
    buffer_.insert(buffer_.end(), bytes, bytes + sizeof(T));
  }

  void sync() {
    flush();
    if (::fsync(fd_) != 0) fail();
    const int closed = ::close(fd_);
    fd_ = -1;
    if (closed != 0) fail();
  }

  void put_in_place() {
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail();
    in_place_ = true;
  }

 private:
  void flush() {
    const char* next = buffer_.data();
    const char* const end = next + buffer_.size();
    while (next < end) {
      const ssize_t written = ::write(fd_, next, static_cast<size_t>(end - next));
      if (written > 0) {
        next += written;
      } else if (errno != EINTR) {
        fail();
      }
    }
    buffer_.clear();
  }

  [[noreturn]] void fail() const {
    throw InputError(concat(target_.string(), ": can't be written: ", std::strerror(errno)));
  }

  fs::path target_;
  fs::path temporary_;
  int fd_ = -1;
  bool in_place_ = false;
  std::vector<char> buffer_;
};

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

struct TokenFileWriter::State {
  State(const fs::path& p, int64_t vocab)
      : prefix(p),
        vocab_size(vocab),
        dtype(vocab < 65500 ? TokenDtype::u16 : TokenDtype::i32),
        bin(p.string() + ".bin") {}

  void write_index();

  fs::path prefix;
  int64_t vocab_size;
  TokenDtype dtype;
  TemporaryFile bin;
  std::vector<int32_t> lengths;
  int64_t num_tokens = 0;
  bool finished = false;
};

TokenFileWriter::TokenFileWriter(const fs::path& prefix, int64_t vocab_size)
    : state_(std::make_unique<State>(prefix, vocab_size)) {}

TokenFileWriter::~TokenFileWriter() = default;

int64_t TokenFileWriter::num_tokens() const { return state_->num_tokens; }
int64_t TokenFileWriter::num_documents() const { return static_cast<int64_t>(state_->lengths.size()); }

void TokenFileWriter::add_document(std::span<const int32_t> tokens) {
  State& s = *state_;
  expect(!s.finished, "document added to a finished shard");
  expect_input(
      tokens.size() <= std::numeric_limits<int32_t>::max(),
      concat(s.prefix.string(), ": a document of ", tokens.size(), " tokens is too long for the format"));
  for (const int32_t token : tokens) {
    if (token < 0 || token >= s.vocab_size)  // the message is built for a bad token only: this loop is hot
      expect(false, concat("token id ", token, " outside [0, ", s.vocab_size, ")"));
    if (s.dtype == TokenDtype::u16) {
      s.bin.put(static_cast<uint16_t>(token));
    } else {
      s.bin.put(token);
    }
  }
  s.lengths.push_back(static_cast<int32_t>(tokens.size()));
  s.num_tokens += static_cast<int64_t>(tokens.size());
}

// One sequence a document.
void TokenFileWriter::State::write_index() {
  TemporaryFile idx(prefix.string() + ".idx");
  for (const char c : kMegatronMagic) idx.put(c);
  idx.put(kMegatronVersion);
  idx.put(static_cast<uint8_t>(dtype));
  idx.put(uint64_t{lengths.size()});
  idx.put(uint64_t{lengths.size() + 1});
  for (const int32_t length : lengths) idx.put(length);
  int64_t offset = 0;
  for (const int32_t length : lengths) {
    idx.put(offset);
    offset += length * static_cast<int64_t>(token_bytes(dtype));
  }
  for (size_t document = 0; document <= lengths.size(); ++document) idx.put(static_cast<int64_t>(document));
  idx.sync();
  // An .idx stands for a complete shard, so that of an older shard goes before its .bin is replaced.
  ::unlink((prefix.string() + ".idx").c_str());
  bin.put_in_place();
  idx.put_in_place();
}

void TokenFileWriter::finish() {
  State& s = *state_;
  expect(!s.finished, "shard finished twice");
  s.bin.sync();
  s.write_index();
  sync_folder(s.prefix.parent_path());
  s.finished = true;
}

}  // namespace transxssm
