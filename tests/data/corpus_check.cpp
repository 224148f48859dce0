// Data, tokenizer and model that don't fit together are noticed before training.
#include "data/corpus_check.h"

#include "data/corpus_manifest.h"
#include "data/token_file.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("corpus check: another tokenizer and too small a vocabulary are refused, foreign data passes") {
  const TempFolder folder;
  const auto shard = folder.path() / "train" / "shard-00000";
  std::filesystem::create_directories(shard.parent_path());
  TokenFileWriter writer(shard, 100);
  writer.add_document(std::vector<int32_t>{1, 50, 2});
  writer.finish();
  DataConfig config;
  config.train = {{(folder.path() / "train").string(), std::nullopt}};
  check_corpus(config, "any", 10, 2);  // without a manifest there is nothing to compare

  CorpusManifest manifest;
  manifest.folder = folder.path();
  manifest.identity = {{"tokenizer", {{"hash", "aa"}, {"vocab_size", 100}}}};
  write_manifest(manifest);
  check_corpus(config, "aa", 100, 2);
  check_corpus(config, "", 128, 2);
  require_error([&] { check_corpus(config, "bb", 100, 2); }, "made with another tokenizer");
  require_error([&] { check_corpus(config, "aa", 99, 2); }, "model.vocab_size is 99");
}
