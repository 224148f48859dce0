// Token shards: what is written is read back, foreign Megatron and llm.c files load, damaged ones are named.
#include "data/token_file.h"

#include "shard_fixtures.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::fixtures;

TEST_CASE("token file: written documents are read back, in both widths") {
  const TempFolder folder;
  const int64_t vocab_size = GENERATE(65499, 65500, 200000);
  const auto top = static_cast<int32_t>(vocab_size - 1);
  write_shard(folder / "shard.0001", {{1, 5, top}, {}, {7}, {1, 2, 3, 4, 2}}, vocab_size);

  const TokenFile file(folder / "shard.0001");
  CHECK(fs::file_size(folder / "shard.0001.bin") == (vocab_size < 65500 ? 18 : 36));
  CHECK(file.num_tokens() == 9);
  CHECK(file.num_documents() == 4);
  CHECK(read_all(file) == std::vector<int32_t>{1, 5, top, 7, 1, 2, 3, 4, 2});
  CHECK(file.document_begin(1) == 3);
  CHECK(file.document_begin(2) == 3);
  CHECK(file.document_begin(3) == 4);
  CHECK(file.document_begin(4) == 9);
  CHECK(file.document_of(2) == 0);
  CHECK(file.document_of(3) == 2);
  CHECK(file.document_of(4) == 3);
  CHECK(file.document_of(8) == 3);
  CHECK_NOTHROW(file.verify_index());
}

TEST_CASE("token file: a shard without documents is valid and empty") {
  const TempFolder folder;
  write_shard(folder / "empty", {});
  const TokenFile file(folder / "empty");
  CHECK(file.num_tokens() == 0);
  CHECK(file.num_documents() == 0);
  CHECK(file.document_begin(0) == 0);
  CHECK_NOTHROW(file.verify_index());
}

TEST_CASE("token file: the index has Megatron's layout, byte for byte") {
  const TempFolder folder;
  write_shard(folder / "a", {{9, 8}, {7}});
  std::ifstream in(folder / "a.idx", std::ios::binary);
  const std::string written((std::istreambuf_iterator<char>(in)), {});
  CHECK(written == megatron_index(8, {2, 1}, {0, 4}, {0, 1, 2}).data);
}

TEST_CASE("token file: a writer that is not finished leaves no shard") {
  const TempFolder folder;
  {
    TokenFileWriter writer(folder / "half", 100);
    writer.add_document(std::vector<int32_t>{1, 2, 3});
    CHECK(writer.num_tokens() == 3);
    CHECK(writer.num_documents() == 1);
  }
  CHECK(fs::is_empty(folder.path().string()));
}

TEST_CASE("token file: a folder that can't be written is bad input") {
  const TempFolder folder;
  const auto message = input_error_of([&] { TokenFileWriter(folder / "missing/shard", 100); });
  CHECK(contains(message, "missing/shard.bin"));
  CHECK(contains(message, "No such file"));
}

TEST_CASE("token file: ids outside the vocabulary are never written") {
  const TempFolder folder;
  TokenFileWriter writer(folder / "a", 100);
  CHECK_THROWS(writer.add_document(std::vector<int32_t>{100}));
  CHECK_THROWS(writer.add_document(std::vector<int32_t>{-1}));
}

TEST_CASE("token file: Megatron's boundaries index sequences, several to a document") {
  const TempFolder folder;
  Bytes bin;
  for (int32_t token = 10; token < 21; ++token) bin.put(token);
  bin.save(folder / "a.bin");
  // Documents: sequences 0–2, none, 3, 4–5.
  megatron_index(4, {2, 1, 3, 1, 2, 2}, {0, 8, 12, 24, 28, 36}, {0, 3, 3, 4, 6}).save(folder / "a.idx");
  const TokenFile file(folder / "a");
  CHECK(file.num_tokens() == 11);
  CHECK(file.num_documents() == 4);
  CHECK(file.document_begin(1) == 6);
  CHECK(file.document_begin(2) == 6);
  CHECK(file.document_begin(3) == 7);
  CHECK(file.document_of(5) == 0);
  CHECK(file.document_of(6) == 2);
  CHECK(file.document_of(10) == 3);
  CHECK(read_all(file) == numbered(11, 10));
  CHECK_NOTHROW(file.verify_index());
}

TEST_CASE("token file: all of Megatron's integer types can be read") {
  const TempFolder folder;
  const int code = GENERATE(1, 2, 3, 4, 5, 8);
  Bytes bin;
  for (const int token : {0, 1, 127}) {
    if (code == 1 || code == 2) bin.put(static_cast<int8_t>(token));
    if (code == 3 || code == 8) bin.put(static_cast<int16_t>(token));
    if (code == 4) bin.put(int32_t{token});
    if (code == 5) bin.put(int64_t{token});
  }
  bin.save(folder / "a.bin");
  megatron_index(static_cast<uint8_t>(code), {3}, {0}, {0, 1}).save(folder / "a.idx");
  CHECK(read_all(TokenFile(folder / "a")) == std::vector<int32_t>{0, 1, 127});
}

TEST_CASE("token file: an id that no vocabulary has is named") {
  const TempFolder folder;
  Bytes().put(int64_t{5}).put(int64_t{1} << 40).save(folder / "a.bin");
  megatron_index(5, {2}, {0}, {0, 1}).save(folder / "a.idx");
  const auto message = input_error_of([&] { read_all(TokenFile(folder / "a")); });
  CHECK(contains(message, "a.bin: token 1 is 1099511627776"));
}

TEST_CASE("token file: llm.c shards of both widths load as one document") {
  const TempFolder folder;
  write_llmc(folder / "gpt2.bin", {50256, 1, 2, 50256, 3});
  write_llmc(folder / "llama3.bin", {128000, 4}, 20240801, 7);
  const TokenFile gpt2(folder / "gpt2.bin");
  CHECK(read_all(gpt2) == std::vector<int32_t>{50256, 1, 2, 50256, 3});
  CHECK(gpt2.num_documents() == 1);
  CHECK(gpt2.document_of(4) == 0);
  CHECK(gpt2.document_begin(1) == 5);
  CHECK_NOTHROW(gpt2.verify_index());
  CHECK(read_all(TokenFile(folder / "llama3.bin")) == std::vector<int32_t>{128000, 4});
}

TEST_CASE("token file: damaged and foreign files are refused, naming file and reason") {
  const TempFolder folder;
  const auto open = [&](const std::string& name) {
    return input_error_of([&] { TokenFile file(folder / name); });
  };
  const Bytes good = megatron_index(8, {2, 1}, {0, 4}, {0, 1, 2});
  Bytes().put(uint16_t{1}).put(uint16_t{2}).put(uint16_t{3}).save(folder / "a.bin");
  const auto refused = [&](const Bytes& idx, const std::string& why) {
    idx.save(folder / "a.idx");
    const std::string message = open("a");
    INFO(message);
    return contains(message, "a.idx") && contains(message, why);
  };
  const auto changed = [&](size_t at, char value) {
    Bytes idx = good;
    idx.data[at] = value;
    return idx;
  };
  const auto cut = [&](size_t size) { return Bytes{good.data.substr(0, size)}; };

  CHECK(contains(open("absent"), "absent.idx: can't be read: No such file"));
  CHECK(refused(cut(0), "truncated"));
  CHECK(refused(cut(33), "truncated"));
  CHECK(refused(cut(34), "truncated"));
  CHECK(refused(cut(good.data.size() - 1), "truncated"));
  CHECK(refused(Bytes{good.data + "\1"}, "multimodal"));
  CHECK(refused(changed(0, 'X'), "not a Megatron index"));
  CHECK(refused(changed(9, 2), "version 2"));
  CHECK(refused(changed(17, 7), "dtype code 7"));
  CHECK(refused(changed(17, 0), "dtype code 0"));
  CHECK(refused(changed(25, 127), "truncated"));
  CHECK(refused(changed(33, 127), "truncated"));
  CHECK(refused(megatron_index(8, {2, 1}, {2, 4}, {0, 1, 2}), "first sequence"));
  CHECK(refused(megatron_index(8, {2, 1}, {0, 3}, {0, 1, 2}), "last sequence"));
  CHECK(refused(megatron_index(8, {2, 1}, {0, -4}, {0, 1, 2}), "negative"));
  CHECK(refused(megatron_index(8, {2, 2}, {0, 4}, {0, 1, 2}), "describes 8"));
  CHECK(refused(megatron_index(4, {2, 1}, {0, 4}, {0, 1, 2}), "describes 8"));
  CHECK(refused(megatron_index(8, {2, 1}, {0, 4}, {1, 2}), "sequences 1 to 2"));
  CHECK(refused(megatron_index(8, {2, 1}, {0, 4}, {0, 1}), "sequences 0 to 1"));
  CHECK(refused(megatron_index(8, {2, 1}, {0, 4}, {}), "no document boundaries"));
  good.save(folder / "a.idx");
  CHECK(open("a").empty());
  fs::remove(folder / "a.bin");
  CHECK(contains(open("a"), "a.bin: can't be read"));
  fs::create_directory(folder / "a.bin");
  CHECK(contains(open("a"), "a.bin: is not a file"));
}

TEST_CASE("token file: damage inside the index is found when it is met and by verify_index") {
  const TempFolder folder;
  Bytes{std::string(12, '\1')}.save(folder / "a.bin");
  const auto verify = [&](const Bytes& idx) {
    idx.save(folder / "a.idx");
    return input_error_of([&] { TokenFile(folder / "a").verify_index(); });
  };
  CHECK(verify(megatron_index(8, {2, 2, 2}, {0, 4, 8}, {0, 1, 2, 3})).empty());
  CHECK(contains(verify(megatron_index(8, {2, 2, 2}, {0, 2, 8}, {0, 1, 2, 3})),
                 "sequence 1 at byte 2 instead of 4"));
  CHECK(contains(verify(megatron_index(8, {2, -1, 2}, {0, 4, 8}, {0, 1, 2, 3})), "length -1"));
  CHECK(contains(verify(megatron_index(8, {2, 2, 2}, {0, 4, 8}, {0, 2, 1, 3})),
                 "ends document 1 at sequence 1"));

  megatron_index(8, {2, 2, 2}, {0, 400, 8}, {0, 1, 9, 3}).save(folder / "a.idx");
  const TokenFile file(folder / "a");
  CHECK(contains(input_error_of([&] { file.document_begin(1); }), "sequence 1 at byte 400"));
  CHECK(contains(input_error_of([&] { file.document_begin(2); }), "starts at sequence 9"));
}

TEST_CASE("token file: damaged and foreign llm.c files are refused") {
  const TempFolder folder;
  const auto open = [&] { return input_error_of([&] { TokenFile file(folder / "a.bin"); }); };
  write_llmc(folder / "a.bin", {1, 2, 3});
  CHECK(open().empty());
  fs::resize_file(folder / "a.bin", 1029);
  CHECK(contains(open(), "3 tokens"));
  fs::resize_file(folder / "a.bin", 1031);
  CHECK(contains(open(), "a.bin: has 1031 bytes"));
  write_llmc(folder / "a.bin", {1, 2, 3}, 20240520, 2);
  CHECK(contains(open(), "version 2"));
  Bytes{"some text"}.save(folder / "a.bin");
  CHECK(contains(open(), "no llm.c shard"));
  Bytes{}.save(folder / "a.bin");
  CHECK(contains(open(), "no llm.c shard"));
}

TEST_CASE("find_token_files: a prefix, a file of it, a folder and a glob name the same shards, sorted") {
  const TempFolder folder;
  for (const char* name : {"b_2", "b_1", "c"}) write_shard(folder / name, {{1, 2}});
  write_llmc(folder / "d.bin", {1});
  Bytes{"{}"}.save(folder / "manifest.json");
  const auto found = [&](const std::string& name) { return find_token_files((folder / name).string()); };
  using Paths = std::vector<fs::path>;
  CHECK(found("c") == Paths{folder / "c"});
  CHECK(found("c.bin") == Paths{folder / "c"});
  CHECK(found("c.idx") == Paths{folder / "c"});
  CHECK(found("d.bin") == Paths{folder / "d.bin"});
  CHECK(found("b_*") == Paths{folder / "b_1", folder / "b_2"});
  CHECK(found("b_?.idx") == Paths{folder / "b_1", folder / "b_2"});
  CHECK(find_token_files(folder.path().string()) ==
        Paths{folder / "b_1", folder / "b_2", folder / "c", folder / "d.bin"});
  CHECK(contains(input_error_of([&] { found("nothing"); }), "nothing: no token files found"));
  CHECK(contains(input_error_of([&] { found("x*"); }), "no token files found"));
  fs::create_directory(folder / "empty");
  CHECK(contains(input_error_of([&] { found("empty"); }), "no token files found"));
}

TEST_CASE("token file: opening a shard makes no pass over its documents") {
  const TempFolder folder;
  // 500 million documents in holes of a sparse file: only the ends are written, so whoever reads on finds
  // zeros.
  constexpr int64_t kDocuments = 500'000'000;
  try {
    Bytes{}.save(folder / "a.bin");
    fs::resize_file(folder / "a.bin", 100);
    megatron_index(8, {}, {}, {}).save(folder / "a.idx");
    fs::resize_file(folder / "a.idx", 34 + 20 * kDocuments + 8);
  } catch (const fs::filesystem_error&) {
    WARN("skipped: this file system has no sparse files of 10 GB");
    return;
  }
  std::fstream idx(folder / "a.idx", std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](int64_t at, int64_t value) {
    idx.seekp(at).write(reinterpret_cast<const char*>(&value), sizeof value);
  };
  put(18, kDocuments);
  put(26, kDocuments + 1);
  put(34 + 12 * kDocuments - 8, 100);  // last offset; its length is 0
  put(34 + 20 * kDocuments, kDocuments);
  idx.close();
  const TokenFile file(folder / "a");
  CHECK(file.num_documents() == kDocuments);
  CHECK(file.num_tokens() == 50);
}
