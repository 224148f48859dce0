#include "data/byte_stream.h"

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/check.h"

namespace transxssm {
namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;

// The file as it is, with a look-ahead to see how it starts.
class RawStream final : public ByteStream {
 public:
  RawStream(const std::filesystem::path& path, std::string name) : name_(std::move(name)) {
    owned_ = path != "-";
    fd_ = owned_ ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    expect_input(fd_ >= 0, concat(name_, ": cannot be read: ", std::strerror(errno)));
  }
  ~RawStream() override {
    if (owned_ && fd_ >= 0) ::close(fd_);
  }
  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;

  // The first bytes (up to four), which read() gives again.
  std::string_view peek() {
    if (ahead_.empty()) {
      ahead_.resize(4);
      ahead_.resize(read_file(ahead_.data(), ahead_.size()));
    }
    return ahead_;
  }

  size_t read(char* out, size_t size) override {
    const size_t again = std::min(size, ahead_.size() - given_again_);
    std::memcpy(out, ahead_.data() + given_again_, again);
    given_again_ += again;
    const size_t count = again + read_file(out + again, size - again);
    consumed_ += count;
    return count;
  }

  uint64_t consumed() const override { return consumed_; }
  const std::string& name() const { return name_; }

 private:
  size_t read_file(char* out, size_t size) {
    size_t filled = 0;
    while (filled < size) {
      const ssize_t got = ::read(fd_, out + filled, size - filled);
      if (got < 0 && errno == EINTR) continue;
      expect_input(got >= 0, concat(name_, ": cannot be read: ", std::strerror(errno)));
      if (got == 0) break;
      filled += static_cast<size_t>(got);
    }
    return filled;
  }

  std::string name_;
  bool owned_ = false;
  int fd_ = -1;
  std::string ahead_;
  size_t given_again_ = 0;
  uint64_t consumed_ = 0;
};

// One or more gzip members. Zero bytes after the last one are padding (as gzip itself has it).
class GzipStream final : public ByteStream {
 public:
  explicit GzipStream(std::unique_ptr<RawStream> raw) : raw_(std::move(raw)), input_(kBufferBytes) {
    expect(inflateInit2(&z_, 15 + 16) == Z_OK, "zlib cannot be initialised");
  }
  ~GzipStream() override { inflateEnd(&z_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

  size_t read(char* out, size_t size) override {
    size_t filled = 0;
    while (filled < size && !finished_) {
      if (z_.avail_in == 0 && !refill()) break;
      if (between_members_ && !start_member()) continue;
      z_.next_out = reinterpret_cast<Bytef*>(out + filled);
      z_.avail_out = static_cast<uInt>(std::min(size - filled, kBufferBytes));
      const uInt room = z_.avail_out;
      const int result = inflate(&z_, Z_NO_FLUSH);
      filled += room - z_.avail_out;
      if (result == Z_STREAM_END) {
        between_members_ = true;
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        throw InputError(concat(raw_->name(), ": corrupt gzip data near byte ",
                                raw_->consumed() - z_.avail_in,
                                z_.msg != nullptr ? concat(" (", z_.msg, ")") : ""));
      }
    }
    return filled;
  }

  uint64_t consumed() const override { return raw_->consumed(); }

 private:
  bool refill() {
    const size_t count = raw_->read(input_.data(), input_.size());
    z_.next_in = reinterpret_cast<Bytef*>(input_.data());
    z_.avail_in = static_cast<uInt>(count);
    if (count > 0) return true;
    expect_input(between_members_ && any_member_,
                 concat(raw_->name(), ": ends in the middle of its gzip data; truncated?"));
    finished_ = true;
    return false;
  }

  // Skips padding; true when a member starts here.
  bool start_member() {
    while (any_member_ && z_.avail_in > 0 && *z_.next_in == 0) {
      ++z_.next_in;
      --z_.avail_in;
    }
    if (z_.avail_in == 0) return false;
    expect(inflateReset(&z_) == Z_OK, "zlib cannot be reset");
    between_members_ = false;
    any_member_ = true;
    return true;
  }

  std::unique_ptr<RawStream> raw_;
  std::vector<char> input_;
  z_stream z_{};
  bool between_members_ = true;
  bool any_member_ = false;
  bool finished_ = false;
};

// One or more zstd frames, with windows up to 128 MiB (the decoder's default limit).
class ZstdStream final : public ByteStream {
 public:
  explicit ZstdStream(std::unique_ptr<RawStream> raw)
      : raw_(std::move(raw)), buffer_(kBufferBytes), decoder_(ZSTD_createDCtx(), ZSTD_freeDCtx) {}

  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos < size) {
      if (input_.pos == input_.size) {
        input_ = {buffer_.data(), raw_->read(buffer_.data(), buffer_.size()), 0};
        // Decompressed bytes may still be waiting inside the decoder although the file has ended.
        if (input_.size == 0 && !flush(output)) break;
        if (input_.size == 0) continue;
      }
      decompress(output);
    }
    return output.pos;
  }

  uint64_t consumed() const override { return raw_->consumed(); }

 private:
  void decompress(ZSTD_outBuffer& output) {
    missing_ = ZSTD_decompressStream(decoder_.get(), &output, &input_);
    if (ZSTD_isError(missing_)) {
      throw InputError(concat(raw_->name(), ": corrupt zstd data near byte ",
                              raw_->consumed() - (input_.size - input_.pos), " (",
                              ZSTD_getErrorName(missing_), ")"));
    }
  }

  // At the end of the file: gives what is left. False when nothing is.
  bool flush(ZSTD_outBuffer& output) {
    if (missing_ == 0) return false;
    const size_t before = output.pos;
    decompress(output);
    if (output.pos > before) return true;
    expect_input(missing_ == 0, concat(raw_->name(), ": ends in the middle of a zstd frame; truncated?"));
    return false;
  }

  std::unique_ptr<RawStream> raw_;
  std::vector<char> buffer_;
  std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> decoder_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  size_t missing_ = 0;  // what the decoder still wants; 0 at the end of a frame
};

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

}  // namespace

std::unique_ptr<ByteStream> open_byte_stream(const std::filesystem::path& path, const std::string& name) {
  auto raw = std::make_unique<RawStream>(path, name);
  const std::string_view start = raw->peek();
  if (starts_with(start, "\x1f\x8b")) return std::make_unique<GzipStream>(std::move(raw));
  if (starts_with(start, "\x28\xb5\x2f\xfd")) return std::make_unique<ZstdStream>(std::move(raw));
  // A skippable frame, which parallel compressors put first.
  if (start.size() == 4 && (start[0] & 0xF0) == 0x50 && start.substr(1) == "\x2a\x4d\x18") {
    return std::make_unique<ZstdStream>(std::move(raw));
  }
  expect_input(
      !starts_with(start, "\xfd\x37\x7a\x58"),
      concat(name, ": is compressed by xz, which is not read here; valid are plain text, .gz and .zst"));
  const bool named_compressed = path.extension() == ".gz" || path.extension() == ".zst";
  expect_input(!named_compressed,
               concat(name, ": is named ", path.extension().string(), " but does not start like ",
                      path.extension() == ".gz" ? "gzip" : "zstd", " data; damaged or misnamed"));
  return raw;
}

}  // namespace transxssm
