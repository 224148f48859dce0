#include "cli/data.h"

#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "data/corpus_tools.h"
#include "data/prepare.h"

namespace transxssm {
namespace {

void prepare(const PrepareOptions& options) {
  const CorpusManifest manifest = prepare_corpus(options);
  struct Sum {
    int64_t shards = 0, documents = 0, tokens = 0;
  };
  std::map<std::string, Sum> splits;
  for (const ShardRecord& shard : manifest.shards) {
    Sum& sum = splits[shard.split];
    ++sum.shards;
    sum.documents += shard.documents;
    sum.tokens += shard.tokens;
  }
  for (const auto& [split, sum] : splits) {
    std::cout << (manifest.folder / split).string() << ": " << counted(sum.documents, "document") << ", "
              << counted(sum.tokens, "token") << ", " << counted(sum.shards, "shard") << "\n";
  }
  const CorpusCounts& counts = manifest.counts;
  if (counts.empty > 0) std::cout << "left out: " << counted(counts.empty, "empty document") << "\n";
  if (counts.skipped > 0) std::cout << "skipped: " << counted(counts.skipped, "bad document") << "\n";
  if (counts.parts > 0) {
    std::cout << "documents over " << (kMaxDocumentBytes >> 20) << " MiB were cut, into " << counts.parts
              << " additional ones\n";
  }
  if (counts.unknown > 0)
    std::cout << "<unk>: " << counted(counts.unknown, "token")
              << ", of characters that the tokenizer lacks\n";
}

void verify(const std::string& path, const std::string& tokenizer) {
  const VerifyReport report = verify_corpus(path, tokenizer);
  for (const std::string& damage : report.damage) log_error(damage);
  expect_input(report.damage.empty(),
               concat(path, ": damaged (", counted(report.damage.size(), "problem"), ", listed above)"));
  std::cout << path << ": " << counted(report.shards, "shard") << ", "
            << counted(report.documents, "document") << ", " << counted(report.tokens, "token")
            << ": valid\n";
  if (!report.has_manifest) {
    std::cout << "no manifest.json of data prepare: there are no counts and checksums to compare with\n";
  }
  if (report.vocab_size == 0)
    std::cout << "no tokenizer given: ids could not be checked against its vocabulary\n";
}

void add_prepare(CLI::App& data) {
  auto* command = data.add_subcommand("prepare", "Tokenize text into shards for training");
  auto options = std::make_shared<PrepareOptions>();
  auto format = std::make_shared<std::string>("auto");
  auto no_bos = std::make_shared<bool>(false);
  command
      ->add_option(
          "--input", options->inputs,
          "Files, patterns, folders, or - for standard input; text (a document a file) or JSON lines (a "
          "document a line), plain, .gz or .zst")
      ->required();
  command->add_option("--tokenizer,--model", options->tokenizer, "SentencePiece model")->required();
  command
      ->add_option(
          "--output", options->output,
          "Folder: train/ and val/ with the shards, tokenizer.model, manifest.json. A run that was stopped "
          "goes on where it was")
      ->required();
  command->add_option("--format", *format, "auto (by file name), text or jsonl")->capture_default_str();
  command->add_option("--text-field", options->text_field, "Field of a JSON line that holds the text")
      ->capture_default_str();
  command->add_flag("--no-bos", *no_bos, "Don't begin documents with BOS; they always end with EOS");
  command
      ->add_option("--shard-tokens", options->shard_tokens,
                   "Most tokens of a shard; only a single document may have more")
      ->capture_default_str();
  command
      ->add_option("--validation-fraction", options->validation_fraction,
                   "Share of the documents that go to val/, chosen by a hash of their text")
      ->capture_default_str();
  command->add_option("--validation-documents", options->validation_documents,
                      "Or so many documents, those with the smallest hashes (reads the input twice)");
  command->add_option("--threads", options->threads, "Threads that tokenize; 0: one a core")
      ->capture_default_str();
  command->add_flag("--skip-bad", options->skip_bad,
                    "Leave out documents that are no valid JSON or UTF-8 or lack the field, and count them");
  command->add_flag("--overwrite", options->overwrite,
                    "Replace what an earlier run left in the output folder");
  command->callback([options, format, no_bos] {
    options->format = parse_text_format(*format);
    options->bos = !*no_bos;
    prepare(*options);
  });
}

void add_inspect(CLI::App& data) {
  auto* command = data.add_subcommand("inspect", "Print counts, or documents as text");
  auto options = std::make_shared<InspectOptions>();
  auto documents = std::make_shared<std::string>();
  command
      ->add_option("path", options->path,
                   "Output folder of data prepare, folder of shards, shard without ending, or pattern")
      ->required();
  command->add_option("--tokenizer,--model", options->tokenizer,
                      "SentencePiece model; otherwise the one in the corpus folder");
  command->add_option("--documents,--document", *documents,
                      "Print these: 7 or 3..9, counted over all shards from 0");
  command->add_flag("--tokens", options->tokens, "Print ids and pieces instead of text");
  command->callback([options, documents] {
    expect_input(!options->tokens || !documents->empty(),
                 "--tokens says how to print documents: add --documents");
    if (!documents->empty()) options->documents = parse_document_range(*documents);
    inspect_corpus(*options, std::cout);
  });
}

void add_verify(CLI::App& data) {
  auto* command = data.add_subcommand("verify", "Check shards for damage; exit code 2 when there is any");
  auto path = std::make_shared<std::string>();
  auto tokenizer = std::make_shared<std::string>();
  command->add_option("path", *path, "As for inspect")->required();
  command->add_option("--tokenizer,--model", *tokenizer,
                      "SentencePiece model whose vocabulary the ids must be in");
  command->callback([path, tokenizer] { verify(*path, *tokenizer); });
}

}  // namespace

void add_data_command(CLI::App& app) {
  auto* data = app.add_subcommand("data", "Prepare and check token shards");
  data->require_subcommand(1);
  add_prepare(*data);
  add_inspect(*data);
  add_verify(*data);
}

}  // namespace transxssm
