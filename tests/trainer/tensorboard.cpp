// Event files, byte by byte.
#include "trainer/tensorboard.h"

#include "support/catch.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

namespace {

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", static_cast<uint8_t>(c));
    text += pair;
  }
  return text;
}

}  // namespace

TEST_CASE("tensorboard: CRC-32C agrees with the test vectors of RFC 3720") {
  REQUIRE(crc32c("") == 0);
  REQUIRE(crc32c("123456789") == 0xE3069283u);
  REQUIRE(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  REQUIRE(crc32c(std::string(32, '\xff')) == 0x62A8AB43u);
}

TEST_CASE("tensorboard: events and their framing are the bytes that TensorBoard's own protobufs give") {
  // wall_time 1.5 and file_version
  REQUIRE(hex(version_event(1.5)) == "09000000000000f83f1a0d627261696e2e4576656e743a32");
  // step 301 (varint ad02), session_log {status: START}
  REQUIRE(hex(session_start_event(1.5, 301)) == "09000000000000f83f10ad023a020801");
  // step 300, summary {value {tag: "a/b" simple_value: 2.5} value {tag: "c" simple_value: -1}}
  REQUIRE(hex(scalars_event(1.5, 300, {{"a/b", 2.5}, {"c", -1}})) ==
          "09000000000000f83f10ac022a160a0a0a03612f6215000020400a080a016315000080bf");
  REQUIRE(hex(tfrecord("abc")) == "0300000000000000b099490e6162636e57f121");
}

TEST_CASE("tensorboard: a new writer starts a file that sorts after those of earlier runs") {
  const TempFolder folder;
  std::vector<std::string> names;
  for (int64_t run = 0; run < 3; ++run) {
    TensorBoardWriter writer(folder.path(), 10 * run);
    writer.write(10 * run, {{"train/loss", 1.0}});
    for (const auto& item : fs::directory_iterator(folder.path())) {
      const std::string name = item.path().filename().string();
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  REQUIRE(names.size() == 3);
  REQUIRE(std::is_sorted(names.begin(), names.end()));
}

TEST_CASE("tensorboard: what was written is in the file at once") {
  const TempFolder folder;
  TensorBoardWriter writer(folder.path(), 0);
  const fs::path file = fs::directory_iterator(folder.path())->path();
  const auto before = fs::file_size(file);
  writer.write(7, {{"train/loss", 1.0}});
  REQUIRE(fs::file_size(file) == before + tfrecord(scalars_event(0, 7, {{"train/loss", 1.0}})).size());
}
