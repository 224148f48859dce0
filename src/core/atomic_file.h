// Files and folders that are complete or absent after a crash: written under a temporary name, fsynced,
// renamed.
//
// What a user can put right (no space, no rights, a file where a folder should be) is thrown as InputError
// that says so; other failures of the file system as std::runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace transxssm {

// Throws the error number `error` of a system call; `doing` is "cannot write" or the like.
[[noreturn]] void throw_file_error(const std::string& doing, const std::filesystem::path& path, int error);

// A file open for writing, unbuffered: when write() returns, the bytes survive the death of the process;
// after sync(), that of the machine.
class OutputFile {
 public:
  enum class Mode { replace, append };
  OutputFile(std::filesystem::path path, Mode mode);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void sync();
  void close();  // reports errors that the destructor has to swallow

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// Makes `folder` and its parents, durably.
void make_folders(const std::filesystem::path& folder);

// Makes the entries of `folder` (created, renamed and removed names) durable.
void sync_folder(const std::filesystem::path& folder);

// Replaces or creates `file` with `content`: readers and crashes see the old content or the new one.
void write_file_atomically(const std::filesystem::path& file, std::string_view content);

// rename(2), then both parents are synced. An existing file `to` is replaced, a folder must be empty.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// Makes `link` a symbolic link to `target`, replacing a link that is there, atomically.
void replace_link(const std::filesystem::path& link, const std::filesystem::path& target);

// The whole file. Throws InputError when it can't be read.
std::string read_file(const std::filesystem::path& file);

// Bytes that an unprivileged process may still write below `folder`.
uint64_t free_bytes(const std::filesystem::path& folder);

// Throws InputError unless `needed` bytes are free; `what` names what is about to be written.
void expect_free_space(const std::filesystem::path& folder, uint64_t needed, const std::string& what);

// "1.50 GiB", "12 bytes".
std::string format_bytes(uint64_t bytes);

}  // namespace transxssm
