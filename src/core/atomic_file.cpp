#include "core/atomic_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

// What to do about it, for errors that are the user's to put right; null for the others.
const char* remedy(int error) {
  switch (error) {
    case ENOSPC:
      return "free some space on this file system or choose another folder";
    case EDQUOT:
      return "the disk quota is used up: free some space or choose another folder";
    case EFBIG:
      return "the limit on the size of a file is reached: see `ulimit -f`";
    case EROFS:
      return "the file system is mounted read-only: choose another folder";
    case EACCES:
    case EPERM:
      return "this user may not do that here: choose another folder or change its rights";
    case ENOENT:
      return "it does not exist";
    case ENOTDIR:
      return "a part of this path is a file; it has to be a folder";
    case EISDIR:
      return "there is a folder of this name; it has to be a file";
    case EEXIST:
    case ENOTEMPTY:
      return "there is something of this name already";
    case ENAMETOOLONG:
      return "choose a shorter name";
    case ELOOP:
      return "its symbolic links form a circle";
    default:
      return nullptr;
  }
}

fs::path parent_of(const fs::path& path) {
  // "a/b/" has the empty file name and the parent "a/b".
  const fs::path parent = path.has_filename() ? path.parent_path() : path.parent_path().parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

fs::path temporary_name(const fs::path& path) {
  return path.parent_path() / concat(".tmp-", path.filename().string());
}

}  // namespace

void throw_file_error(const std::string& doing, const fs::path& path, int error) {
  const std::string message = concat(doing, " ", path.string(), ": ", std::strerror(error));
  if (const char* advice = remedy(error)) throw InputError(concat(message, " (", advice, ")"));
  throw std::runtime_error(message);
}

OutputFile::OutputFile(fs::path path, Mode mode) : path_(std::move(path)) {
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (mode == Mode::replace ? O_TRUNC : O_APPEND);
  descriptor_ = ::open(path_.c_str(), flags, 0666);
  if (descriptor_ < 0) throw_file_error("cannot write", path_, errno);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::write(const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, next, size);  // Linux writes at most 2 GiB at once
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_file_error("cannot write", path_, errno);
    }
    next += written;
    size -= static_cast<size_t>(written);
  }
}

void OutputFile::sync() {
  while (::fsync(descriptor_) != 0)
    if (errno != EINTR) throw_file_error("cannot write", path_, errno);
}

void OutputFile::close() {
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR)
    throw_file_error("cannot write", path_, errno);
}

void make_folders(const fs::path& folder) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) == 0) {
    expect_input(S_ISDIR(info.st_mode),
                 concat(folder.string(), " is a file; it has to be a folder or a new name"));
    return;
  }
  const fs::path parent = parent_of(folder);
  if (parent != folder) make_folders(parent);
  if (::mkdir(folder.c_str(), 0777) == 0) return sync_folder(parent);
  const int error = errno;
  std::error_code unknown;
  if (error != EEXIST || !fs::is_directory(folder, unknown))
    throw_file_error("cannot make the folder", folder, error);
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_file_error("cannot open the folder", folder, errno);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some network file systems can't sync folders (EINVAL): their server makes names durable by itself.
  if (error != 0 && error != EINVAL) throw_file_error("cannot write to the folder", folder, error);
}

void write_file_atomically(const fs::path& file, std::string_view content) {
  const fs::path temporary = temporary_name(file);
  try {
    OutputFile out(temporary, OutputFile::Mode::replace);
    out.write(content);
    out.sync();
    out.close();
    rename_durably(temporary, file);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void rename_durably(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw_file_error("cannot write", to, errno);
  sync_folder(parent_of(to));
  if (parent_of(from) != parent_of(to)) sync_folder(parent_of(from));
}

void replace_link(const fs::path& link, const fs::path& target) {
  const fs::path temporary = temporary_name(link);
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) != 0)
    throw_file_error("cannot make the link", link, errno);
  rename_durably(temporary, link);
}

std::string read_file(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw_file_error("cannot read", file, errno);
  std::string content;
  std::string block(size_t{1} << 16, '\0');
  ssize_t got = 0;
  while ((got = ::read(descriptor, block.data(), block.size())) > 0 || (got < 0 && errno == EINTR))
    if (got > 0) content.append(block, 0, static_cast<size_t>(got));
  const int error = got < 0 ? errno : 0;
  ::close(descriptor);
  if (error != 0) throw_file_error("cannot read", file, error);
  return content;
}

uint64_t free_bytes(const fs::path& folder) {
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) throw_file_error("cannot examine", folder, errno);
  return uint64_t{info.f_bavail} * info.f_frsize;
}

void expect_free_space(const fs::path& folder, uint64_t needed, const std::string& what) {
  const uint64_t available = free_bytes(folder);
  expect_input(available >= needed, concat("no space for ", what, " in ", folder.string(), ": ",
                                           format_bytes(needed), " are needed, ", format_bytes(available),
                                           " are free (free some space or choose another folder)"));
}

std::string format_bytes(uint64_t bytes) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
  return text;
}

}  // namespace transxssm
