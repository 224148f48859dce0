// TensorBoard event files, written by hand: TFRecord framing around two small protobuf messages (tensorflow's
// core/util/event.proto and core/framework/summary.proto). Scalars only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/atomic_file.h"

namespace transxssm {

using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value

// CRC-32C (Castagnoli) of `data`; the framing stores it rotated and offset ("masked").
uint32_t crc32c(std::string_view data);

// Length, masked checksum of the length, data, masked checksum of the data.
std::string tfrecord(std::string_view data);

// Serialized Event messages. `wall_time` in seconds since 1970.
std::string version_event(double wall_time);
std::string session_start_event(double wall_time, int64_t first_step);
std::string scalars_event(double wall_time, int64_t step, const Scalars& scalars);

// One event file. Each call ends in one write(2), so a killed process loses nothing it reported.
class TensorBoardWriter {
 public:
  // Starts a new file in `folder` (made if missing) whose name sorts after those that are there. Readers drop
  // what older files hold from `first_step` on: a resumed run passes the checkpoint's step + 1.
  TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step);

  void write(int64_t step, const Scalars& scalars);

 private:
  OutputFile file_;
};

}  // namespace transxssm
