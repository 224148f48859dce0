#include "trainer/tensorboard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <unistd.h>

#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "TFRecord and protobuf are little-endian");

// Field numbers of the messages.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
constexpr int kSummaryValue = 1;
enum ValueField { kTag = 1, kSimpleValue = 2 };
constexpr int kSessionStatus = 1;
constexpr uint64_t kSessionStart = 1;

enum class Wire : uint64_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

constexpr auto kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}();

uint32_t masked_crc32c(std::string_view data) {
  const uint32_t crc = crc32c(data);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

template <class T>
void append_raw(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void append_key(std::string& out, int field, Wire wire) {
  append_varint(out, (static_cast<uint64_t>(field) << 3) | static_cast<uint64_t>(wire));
}

void append_varint_field(std::string& out, int field, uint64_t value) {
  append_key(out, field, Wire::varint);
  append_varint(out, value);
}

void append_bytes_field(std::string& out, int field, std::string_view value) {
  append_key(out, field, Wire::bytes);
  append_varint(out, value.size());
  out.append(value);
}

std::string event_at(double wall_time, int64_t step) {
  std::string event;
  append_key(event, kWallTime, Wire::fixed64);
  append_raw(event, wall_time);
  if (step != 0) append_varint_field(event, kStep, static_cast<uint64_t>(step));
  return event;
}

double wall_time_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// events.out.tfevents.SECONDS.HOST.PID: readers go through a folder's files in the order of their names, so
// the seconds are never those of an older file, even if the clock went back.
fs::path new_file_name(const fs::path& folder) {
  const std::string prefix = "events.out.tfevents.";
  auto seconds = static_cast<long long>(wall_time_now());
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (name.rfind(prefix, 0) == 0) seconds = std::max(seconds, std::atoll(name.c_str() + prefix.size()) + 1);
  }
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  char digits[32];
  std::snprintf(digits, sizeof digits, "%010lld", seconds);
  return folder / concat(prefix, digits, ".", host, ".", ::getpid());
}

fs::path made(const fs::path& folder) {
  make_folders(folder);
  return folder;
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t crc = ~0u;
  for (const char c : data) crc = kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::string tfrecord(std::string_view data) {
  std::string record;
  append_raw(record, static_cast<uint64_t>(data.size()));
  append_raw(record, masked_crc32c(record));
  record.append(data);
  append_raw(record, masked_crc32c(data));
  return record;
}

std::string version_event(double wall_time) {
  std::string event = event_at(wall_time, 0);
  append_bytes_field(event, kFileVersion, "brain.Event:2");
  return event;
}

std::string session_start_event(double wall_time, int64_t first_step) {
  std::string log;
  append_varint_field(log, kSessionStatus, kSessionStart);
  std::string event = event_at(wall_time, first_step);
  append_bytes_field(event, kSessionLog, log);
  return event;
}

std::string scalars_event(double wall_time, int64_t step, const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    std::string entry;
    append_bytes_field(entry, kTag, tag);
    append_key(entry, kSimpleValue, Wire::fixed32);
    append_raw(entry, static_cast<float>(value));
    append_bytes_field(summary, kSummaryValue, entry);
  }
  std::string event = event_at(wall_time, step);
  append_bytes_field(event, kSummary, summary);
  return event;
}

TensorBoardWriter::TensorBoardWriter(const fs::path& folder, int64_t first_step)
    : file_(new_file_name(made(folder)), OutputFile::Mode::append) {
  const double now = wall_time_now();
  file_.write(tfrecord(version_event(now)) + tfrecord(session_start_event(now, first_step)));
}

void TensorBoardWriter::write(int64_t step, const Scalars& scalars) {
  file_.write(tfrecord(scalars_event(wall_time_now(), step, scalars)));
}

}  // namespace transxssm
