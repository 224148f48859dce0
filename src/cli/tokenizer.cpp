#include "cli/tokenizer.h"

#include <charconv>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "core/check.h"
#include "core/counted.h"
#include "data/byte_stream.h"
#include "data/tokenizer.h"
#include "data/tokenizer_trainer.h"

namespace transxssm {
namespace {

struct CodeOptions {
  std::string model;
  std::string input = "-";
  std::string text;
  std::string ids;
  bool pieces = false;
  bool bos = false;
  bool eos = false;
};

std::string name_of(const std::string& input) { return input == "-" ? "standard input" : input; }

std::string read_input(const std::string& input) {
  const auto stream = open_byte_stream(input, name_of(input));
  constexpr size_t kStep = size_t{1} << 20;
  std::string all;
  for (size_t count = kStep; count == kStep;) {
    const size_t before = all.size();
    all.resize(before + kStep);
    count = stream->read(all.data() + before, kStep);
    all.resize(before + count);
  }
  return all;
}

void add_special(std::vector<int32_t>& ids, int32_t id, const char* name, const std::string& model) {
  expect_input(id >= 0, concat(model, ": has no ", name));
  ids.push_back(id);
}

void encode(const CodeOptions& options, bool text_given) {
  const Tokenizer tokenizer(options.model);
  std::vector<int32_t> ids;
  if (options.bos) add_special(ids, tokenizer.bos_id(), "<s>", options.model);
  const std::string text = text_given ? options.text : read_input(options.input);
  try {
    tokenizer.encode(text, ids);
  } catch (const InputError& error) {
    throw InputError(concat(text_given ? "--text" : name_of(options.input), ": ", error.what()));
  }
  if (options.eos) add_special(ids, tokenizer.eos_id(), "</s>", options.model);
  const char* separator = "";
  for (const int32_t id : ids) {
    std::cout << separator;
    if (options.pieces) {
      std::cout << tokenizer.piece(id);
    } else {
      std::cout << id;
    }
    separator = " ";
  }
  std::cout << "\n";
}

std::vector<int32_t> parse_ids(const std::string& text) {
  constexpr const char* kBetween = " \t\r\n,";
  std::vector<int32_t> ids;
  for (size_t begin = text.find_first_not_of(kBetween); begin != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, begin), text.size());
    int32_t id = 0;
    const auto result = std::from_chars(text.data() + begin, text.data() + end, id);
    expect_input(result.ec == std::errc() && result.ptr == text.data() + end,
                 concat("'", text.substr(begin, std::min<size_t>(end - begin, 40)),
                        "' is no token id; decode takes whole numbers between spaces or commas"));
    ids.push_back(id);
    begin = text.find_first_not_of(kBetween, end);
  }
  return ids;
}

void decode(const CodeOptions& options, bool ids_given) {
  const Tokenizer tokenizer(options.model);
  std::cout << tokenizer.decode(parse_ids(ids_given ? options.ids : read_input(options.input)));
}

void print_info(const std::string& model) {
  const Tokenizer tokenizer(model);
  const TokenizerInfo& info = tokenizer.info();
  std::cout << "model           " << model << "\n"
            << "type            " << info.type << "\n"
            << "vocabulary      " << tokenizer.vocab_size() << " pieces: " << info.byte_pieces << " bytes, "
            << info.control_pieces << " control, " << info.user_defined_pieces << " user-defined\n"
            << "ids             unk " << tokenizer.unk_id() << ", bos " << tokenizer.bos_id() << ", eos "
            << tokenizer.eos_id() << ", pad " << tokenizer.pad_id() << "\n"
            << "byte fallback   " << (info.byte_fallback ? "yes" : "no") << "\n"
            << "normalization   " << (info.normalization.empty() ? "-" : info.normalization) << "\n"
            << "dummy prefix    " << (info.dummy_prefix ? "yes" : "no") << "\n"
            << "longest piece   " << info.longest_piece.size() << " bytes\n"
            << "exact           " << (info.inexact.empty() ? "yes" : "no: " + info.inexact) << "\n"
            << "hash            " << tokenizer.hash() << "\n";
}

void train(const TokenizerTraining& options) {
  const TokenizerTrainingReport report = train_tokenizer(options);
  std::cout << report.model.string() << ": " << options.vocab_size << " pieces from " << report.sampled_bytes
            << " of " << counted(report.bytes, "byte") << " in " << counted(report.documents, "document")
            << " (" << counted(report.sentences, "sentence") << ")\n";
  if (report.long_lines > 0)
    std::cout << "split: " << counted(report.long_lines, "line") << " over 4192 bytes\n";
  if (report.skipped > 0) std::cout << "skipped: " << counted(report.skipped, "bad document") << "\n";
}

void add_train(CLI::App& tokenizer) {
  auto* command = tokenizer.add_subcommand("train", "Train a SentencePiece model on text");
  auto options = std::make_shared<TokenizerTraining>();
  auto format = std::make_shared<std::string>("auto");
  command
      ->add_option(
          "--input", options->inputs,
          "Files, patterns, folders, or - for standard input; text or JSON lines, plain, .gz or .zst")
      ->required();
  command
      ->add_option("--model-prefix,--output", options->model_prefix,
                   "PREFIX: the model is written to PREFIX.model")
      ->required();
  command->add_option("--vocab-size", options->vocab_size, "Pieces, the special ones included")
      ->capture_default_str();
  command->add_option("--type", options->type, "bpe or unigram")->capture_default_str();
  command
      ->add_option("--sample-bytes", options->sample_bytes,
                   "Bytes of text to train on, sampled from the input; memory is up to 15 times as much")
      ->capture_default_str();
  command
      ->add_option("--character-coverage", options->character_coverage,
                   "Share of the characters that get a piece; the rare rest is spelled in byte pieces")
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Of the sample")->check(seed_range())->capture_default_str();
  command
      ->add_option("--threads", options->threads,
                   "Threads of the trainer; the same number on any machine gives the same model")
      ->capture_default_str();
  command->add_option("--format", *format, "auto (by file name), text or jsonl")->capture_default_str();
  command->add_option("--text-field", options->text_field, "Field of a JSON line that holds the text")
      ->capture_default_str();
  command->add_flag("--skip-bad", options->skip_bad,
                    "Leave out lines that are no valid JSON or UTF-8, and count them");
  command->callback([options, format] {
    options->format = parse_text_format(*format);
    train(*options);
  });
}

void add_encode(CLI::App& tokenizer) {
  auto* command =
      tokenizer.add_subcommand("encode", "Text to ids: the whole input as one text, ids on one line");
  auto options = std::make_shared<CodeOptions>();
  command->add_option("--model,--tokenizer", options->model, "SentencePiece model")->required();
  auto* text = command->add_option("--text", options->text, "The text itself instead of an input");
  command->add_option("--input", options->input, "File of text, or - for standard input")
      ->capture_default_str()
      ->excludes(text);
  command->add_flag("--pieces", options->pieces, "Print pieces instead of ids");
  command->add_flag("--bos", options->bos, "Put BOS before the text");
  command->add_flag("--eos", options->eos, "Put EOS after the text");
  command->callback([options, text] { encode(*options, text->count() > 0); });
}

void add_decode(CLI::App& tokenizer) {
  auto* command = tokenizer.add_subcommand("decode", "Ids to text, byte for byte");
  auto options = std::make_shared<CodeOptions>();
  command->add_option("--model,--tokenizer", options->model, "SentencePiece model")->required();
  auto* ids =
      command->add_option("--ids", options->ids, "The ids themselves, \"1 2 3\", instead of an input");
  command
      ->add_option("--input", options->input, "File of ids between spaces or commas, or - for standard input")
      ->capture_default_str()
      ->excludes(ids);
  command->callback([options, ids] { decode(*options, ids->count() > 0); });
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
  auto* tokenizer = app.add_subcommand("tokenizer", "Train, use and look into tokenizers");
  tokenizer->require_subcommand(1);
  add_train(*tokenizer);
  add_encode(*tokenizer);
  add_decode(*tokenizer);
  auto* info = tokenizer->add_subcommand("info", "Say what a SentencePiece model is");
  auto model = std::make_shared<std::string>();
  info->add_option("model,--model,--tokenizer", *model, "SentencePiece model")->required();
  info->callback([model] { print_info(*model); });
}

}  // namespace transxssm
