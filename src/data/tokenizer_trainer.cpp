#include "data/tokenizer_trainer.h"

#include <algorithm>
#include <regex>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <sentencepiece_trainer.h>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/counted.h"
#include "core/hash.h"
#include "core/logging.h"
#include "data/corpus_manifest.h"
#include "data/text_sample.h"
#include "data/utf8.h"

namespace transxssm {
namespace {

constexpr size_t kMaxSentenceBytes = 4192;            // SentencePiece's default: longer ones are dropped
constexpr int32_t kSmallestVocabulary = 4 + 256 + 1;  // special pieces, byte pieces, one character

// Where the next sentence of `text` ends: before a space, so that no word is cut where that can be avoided.
size_t sentence_end(std::string_view text) {
  if (text.size() <= kMaxSentenceBytes) return text.size();
  const size_t space = text.substr(0, kMaxSentenceBytes).rfind(' ');
  return space != std::string_view::npos && space > 0 ? space : utf8_border(text, kMaxSentenceBytes);
}

// Bytes of a character at the front of `text` that must not reach the trainer: NUL, U+2581 (its space) and
// U+2585 (it drops sentences that hold it). 0 for all others. All three are encoded as byte pieces.
size_t reserved_character(std::string_view text) {
  if (text[0] == '\0') return 1;
  return text.starts_with("\xE2\x96\x81") || text.starts_with("\xE2\x96\x85") ? 3 : 0;
}

// Feeds the sampled passages sentence by sentence. Sentences keep their line breaks, so that pieces may
// contain them.
class SampleIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit SampleIterator(std::vector<std::string> passages) : passages_(std::move(passages)) { Next(); }

  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }
  int64_t sentences() const { return sentences_; }

  void Next() override {
    while (!find_rest()) {
      if (passage_ > 0) passages_[passage_ - 1] = std::string();  // no longer needed
      if (passage_ == passages_.size()) {
        done_ = true;
        return;
      }
      rest_ = passages_[passage_++];
    }
    const size_t reserved = next_reserved();
    const size_t length = sentence_end(rest_.substr(0, reserved));
    sentence_ = rest_.substr(0, length);
    rest_.remove_prefix(length);
    ++sentences_;
  }

 private:
  // Drops reserved characters at the front; true when text is left.
  bool find_rest() {
    while (!rest_.empty() && reserved_character(rest_) > 0) rest_.remove_prefix(reserved_character(rest_));
    return !rest_.empty();
  }

  size_t next_reserved() const {
    const size_t limit = std::min(rest_.size(), kMaxSentenceBytes + 4);
    for (size_t i = 0; i < limit; ++i) {
      if (reserved_character(rest_.substr(i)) > 0) return i;
    }
    return rest_.size();
  }

  std::vector<std::string> passages_;
  size_t passage_ = 0;
  std::string_view rest_;
  std::string sentence_;
  int64_t sentences_ = 0;
  bool done_ = false;
};

int64_t count_long_lines(const std::vector<std::string>& passages) {
  int64_t count = 0;
  for (std::string_view rest : passages) {
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      count += end > kMaxSentenceBytes ? 1 : 0;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return count;
}

std::vector<std::string> sample_text(const TokenizerTraining& options, TokenizerTrainingReport& report) {
  auto sources = find_text_sources(options.inputs, options.format);
  TextSample sample(options.seed, options.sample_bytes);
  BlockReader reader(sources);
  while (const auto block = reader.next()) {
    for_each_document(*block, options.text_field, [&](const TextDocument& document) {
      if (!document.error.empty()) {
        expect_input(options.skip_bad, concat(sources[block->source].name, ":", document.line, ": ",
                                              document.error, " (--skip-bad leaves such documents out)"));
        ++report.skipped;
        return;
      }
      report.documents += document.text.empty() || document.continued ? 0 : 1;
      report.bytes += static_cast<int64_t>(document.text.size());
      sample.add(document.text);
    });
  }
  report.sampled_bytes = sample.bytes();
  expect_input(
      report.bytes > 0,
      concat("no text in ", names_of(sources),
             report.skipped > 0 ? concat(" (skipped ", counted(report.skipped, "bad line"), ")") : "",
             ": a tokenizer needs text to train on"));
  return sample.take();
}

// The library's message in the user's terms.
[[noreturn]] void throw_training_error(const TokenizerTraining& options, const std::string& message) {
  std::smatch match;
  if (std::regex_search(message, match, std::regex("too high.*value <= (\\d+)"))) {
    throw InputError(concat("a vocabulary of ", options.vocab_size,
                            " pieces can't be reached with this text, only ", match[1].str(),
                            "; give more text or --vocab-size ", match[1].str(), " or less"));
  }
  if (std::regex_search(message, match, std::regex("smaller than required_chars. \\d+ vs (\\d+)"))) {
    throw InputError(concat("a vocabulary of ", options.vocab_size,
                            " pieces is too small: bytes, special pieces and the "
                            "characters of this text need ",
                            match[1].str(), "; raise --vocab-size or lower --character-coverage"));
  }
  throw InputError(concat("SentencePiece could not train on this text: ", message));
}

std::string run_trainer(const TokenizerTraining& options, SampleIterator& sentences) {
  const std::unordered_map<std::string, std::string> arguments = {
      {"model_type", options.type},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"character_coverage", concat(options.character_coverage)},
      {"max_sentence_length", std::to_string(kMaxSentenceBytes)},
      {"num_threads", std::to_string(options.threads)},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"unk_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "2"},
      {"pad_id", "3"},
      {"minloglevel", "2"},
  };
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &sentences, &model);
  if (!status.ok()) throw_training_error(options, status.ToString());
  return model;
}

void check_options(const TokenizerTraining& options) {
  expect_input(options.type == "bpe" || options.type == "unigram",
               concat("tokenizer type '", options.type, "' is not known; valid are bpe and unigram"));
  expect_input(options.vocab_size >= kSmallestVocabulary,
               concat("a vocabulary of ", options.vocab_size,
                      " pieces is too small: 256 bytes, 4 special pieces and at "
                      "least one character need ",
                      kSmallestVocabulary));
  expect_input(options.sample_bytes >= 1, "--sample-bytes must be at least 1");
  expect_input(options.threads >= 1 && options.threads <= 1024, "--threads must be from 1 to 1024");
  expect_input(options.character_coverage > 0 && options.character_coverage <= 1,
               "--character-coverage must be above 0 and at most 1");
  expect_input(!options.model_prefix.empty(), "no name given for the model");
}

// A place that can't be written is found before the work, not after it.
void check_place(const std::filesystem::path& model) {
  if (model.has_parent_path()) make_folders(model.parent_path());
  const std::filesystem::path probe = concat(model.string(), ".partial");
  OutputFile(probe, OutputFile::Mode::replace).close();
  std::filesystem::remove(probe);
}

// A prepared corpus keeps its tokenizer; another one in that place would leave its tokens without meaning.
void expect_no_corpus_needs(const std::filesystem::path& file, const std::string& model) {
  if (!std::filesystem::exists(file) || file.filename() != "tokenizer.model") return;
  const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  const auto corpus = read_corpus_manifest(folder);
  expect_input(!corpus || hash_file(file) != corpus->tokenizer_hash() ||
                   hash_bytes(model.data(), model.size()) == corpus->tokenizer_hash(),
               concat(file.string(), " is the tokenizer of the corpus in ", folder.string(),
                      " and is left as it is; choose another --output, or remove the corpus first"));
}

}  // namespace

TokenizerTrainingReport train_tokenizer(const TokenizerTraining& options) {
  check_options(options);
  TokenizerTrainingReport report;
  report.model =
      options.model_prefix.ends_with(".model") ? options.model_prefix : options.model_prefix + ".model";
  check_place(report.model);

  auto passages = sample_text(options, report);
  report.long_lines = count_long_lines(passages);
  log_info(concat("training a ", options.type, " tokenizer of ", options.vocab_size, " pieces on ",
                  report.sampled_bytes, " of ", counted(report.bytes, "byte"), " of text"));
  SampleIterator sentences(std::move(passages));
  const std::string model = run_trainer(options, sentences);
  report.sentences = sentences.sentences();
  expect_no_corpus_needs(report.model, model);
  write_file_atomically(report.model, model);
  return report;
}

}  // namespace transxssm
