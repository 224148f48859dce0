// safetensors files: equal bytes for every type, and every kind of damage named.
#include "checkpoint/safetensors.h"

#include "checkpoint_case.h"
#include "core/atomic_file.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

// A file with this header and `data` bytes of data.
void write_raw(const std::filesystem::path& file, const std::string& header, size_t data) {
  const uint64_t size = header.size();
  write_file_atomically(
      file, std::string(reinterpret_cast<const char*>(&size), 8) + header + std::string(data, 'x'));
}

}  // namespace

TEST_CASE("safetensors: every type and shape comes back with the same bytes") {
  const TempFolder folder;
  const StateDict state = sample_state();
  const NamedTensors tensors(state.tensors.begin(), state.tensors.end());
  write_safetensors(folder / "a.safetensors", tensors);
  const SafetensorsFile file(folder / "a.safetensors");
  REQUIRE(file.entries().size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    REQUIRE(same_bytes(file.read(name), tensor));
  }
}

TEST_CASE("safetensors: the file is laid out as the format's specification says") {
  const TempFolder folder;
  write_safetensors(folder / "a.safetensors",
                    {{"w", at::arange(3, at::kInt)}, {"b", at::ones({2}, at::kByte)}});
  const std::string text = read_file(folder / "a.safetensors");
  std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"data_offsets":[12,14],"dtype":"U8","shape":[2]},)"
      R"("w":{"data_offsets":[0,12],"dtype":"I32","shape":[3]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  REQUIRE(static_cast<size_t>(static_cast<uint8_t>(text[0])) == header.size());
  REQUIRE(text.substr(1, 7) == std::string(7, '\0'));
  REQUIRE(text.substr(8, header.size()) == header);
  REQUIRE(text.substr(8 + header.size()) == std::string("\0\0\0\0\1\0\0\0\2\0\0\0\1\1", 14));
}

TEST_CASE("safetensors: damage is bad input that names the file, and the tensor where there is one") {
  const auto [header, data, words] = GENERATE(table<std::string, size_t, std::string>({
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7, "tensor a: its bytes [0, 8)"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9, "8 bytes, the file has 9"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "tensor a: its shape does not fit"},
      {R"({"a":{"dtype":"F32","shape":[-2,-1],"data_offsets":[0,8]}})", 8,
       "tensor a: its shape does not fit"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0,
       "tensor a: its shape"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "tensor a: its bytes"},
      {R"({"a":{"dtype":"Q7","shape":[2],"data_offsets":[0,8]}})", 8, "tensor a: its type Q7"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", 8, "tensor a: its header entry is damaged"},
      {R"({"a":7})", 8, "tensor a: its header entry is damaged"},
      {R"({"a":)", 8, "header is not JSON"},
      {R"([])", 0, "header is not JSON"},
  }));
  const TempFolder folder;
  write_raw(folder / "bad.safetensors", header, data);
  const std::string why = input_error_of([&] { SafetensorsFile file(folder / "bad.safetensors"); });
  INFO(why);
  REQUIRE(why.find("bad.safetensors") != std::string::npos);
  REQUIRE(why.find(words) != std::string::npos);
}

TEST_CASE("safetensors: files too short for their header, folders and missing files are bad input") {
  const TempFolder folder;
  write_file_atomically(folder / "short", "1234567");
  write_file_atomically(folder / "long", std::string(8, '\xff') + "{}");
  for (const std::string name : {"short", "long", "missing", "."}) {
    INFO(name);
    REQUIRE_FALSE(input_error_of([&] { SafetensorsFile file(folder / name); }).empty());
  }
}

TEST_CASE("safetensors: asking for a tensor that is not there names it") {
  const TempFolder folder;
  write_safetensors(folder / "a.safetensors", {});
  const SafetensorsFile file(folder / "a.safetensors");
  REQUIRE(input_error_of([&] { file.read("w.q"); }).find("no tensor w.q") != std::string::npos);
}

TEST_CASE("safetensors: a type that the format does not have is refused") {
  const TempFolder folder;
  REQUIRE_THROWS(write_safetensors(folder / "a", {{"c", at::zeros({2}, at::kComplexFloat)}}));
}
