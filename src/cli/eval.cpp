#include "cli/eval.h"

#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <numbers>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/command_line.h"
#include "cli/table.h"
#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "data/text_reader.h"
#include "data/token_file.h"
#include "eval/question.h"
#include "eval/scoring.h"
#include "parallel/mesh.h"
#include "trainer/inference.h"
#include "trainer/paths.h"
#include "trainer/perplexity.h"
#include "trainer/task_set.h"

namespace transxssm {
namespace fs = std::filesystem;
using nlohmann::ordered_json;
namespace {

constexpr std::array<std::pair<const char*, QuestionFormat>, 5> kTasks{
    {{"hellaswag", QuestionFormat::hellaswag},
     {"arc", QuestionFormat::arc},
     {"piqa", QuestionFormat::piqa},
     {"lambada", QuestionFormat::lambada},
     {"requests", QuestionFormat::requests}}};

struct Options {
  std::string checkpoint, tokenizer, text_field = "text", device = "auto";
  std::array<std::vector<std::string>, kTasks.size()> tasks;  // files, as in kTasks
  std::vector<std::string> texts, tokens;
  int64_t max_length = 0, batch_tokens = 0, limit = 0;
  bool json = false;
};

// How far a set is, on a terminal only.
class Progress {
 public:
  Progress(std::string what, std::string unit, size_t total)
      : what_(std::move(what)), unit_(std::move(unit)), total_(total), shown_(isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (shown_) std::fputs("\r\x1b[K", stderr);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(size_t done) const {
    if (!shown_) return;
    std::string line = concat(what_, ": ", done);
    if (total_ > 0) line += concat(" of ", total_);
    line += concat(" ", unit_);
    if (total_ > 0) {
      const size_t cells = 30 * done / total_;
      line += " [" + std::string(cells, '#') + std::string(30 - cells, '.') + "]";
    }
    std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
    std::fflush(stderr);
  }

 private:
  std::string what_, unit_;
  size_t total_;
  bool shown_;
};

struct QuestionFile {
  std::string path;
  const char* task;
  std::vector<Question> questions;
};

// All of them, and whether the other files are there: loading a large model takes minutes.
std::vector<QuestionFile> read_files(const Options& options) {
  std::vector<QuestionFile> files;
  for (size_t i = 0; i < kTasks.size(); ++i)
    for (const std::string& path : options.tasks[i])
      files.push_back({path, kTasks[i].first, read_questions(path, kTasks[i].second, options.limit)});
  for (const std::string& path : options.texts) find_text_sources({path}, TextFormat::automatic);
  for (const std::string& path : options.tokens) find_token_files(path);
  expect_input(
      !files.empty() || !options.texts.empty() || !options.tokens.empty(),
      "nothing to evaluate: name files with --text, --tokens, --requests, --hellaswag, --arc, --piqa "
      "or --lambada");
  return files;
}

struct Session {
  InferenceModel loaded;
  std::unique_ptr<Tokenizer> tokenizer;  // none where only token files are read and there is none
  int64_t max_length = 0, batch_tokens = 0;
};

Session open_session(const Options& options, bool has_questions) {
  const bool needs_text = has_questions || !options.texts.empty() || !options.tokenizer.empty();
  Session session;
  try {
    session.tokenizer = std::make_unique<Tokenizer>(find_tokenizer(options.checkpoint, options.tokenizer));
  } catch (const InputError&) {
    if (needs_text) throw;
  }
  session.loaded = load_for_inference(options.checkpoint, device_named(options.device), /*max_positions=*/1);
  if (session.tokenizer) {
    check_tokenizer(*session.tokenizer, session.loaded);
    expect_input(
        session.tokenizer->bos_id() >= 0 && session.tokenizer->eos_id() >= 0,
        "the tokenizer has no BOS or no EOS; texts to evaluate start with one and end with the other");
  }
  session.max_length = options.max_length > 0 ? options.max_length : session.loaded.config.train.seq_len;
  const bool gpu = session.loaded.device.device.is_cuda();
  session.batch_tokens = options.batch_tokens > 0 ? options.batch_tokens : gpu ? 32768 : 2048;
  session.loaded.bind(session.max_length);
  log_info(concat("step ", session.loaded.step, " on ", session.loaded.device.name, "; texts of at most ",
                  counted(session.max_length, "token")));
  log_paths(session.loaded.config, session.loaded.device);
  return session;
}

ordered_json number(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(); }
ordered_json number(const std::optional<double>& value) { return value ? number(*value) : ordered_json(); }

ordered_json answer_questions(const Session& session, QuestionFile& file) {
  const TaskSet set = make_task_set(fs::path(file.path).stem().string(), std::move(file.questions),
                                    *session.tokenizer, session.max_length);
  size_t scored = 0;
  const Progress progress(file.path, "texts", set.texts.size());
  const auto result =
      evaluate_task(*session.loaded.model, set, session.batch_tokens, Mesh::single(), [&](size_t count) {
        progress.show(scored += count);
        return true;
      });
  if (result->not_finite)
    throw InputError(concat(set.questions[*result->not_finite].where, ": ", kNotFinite));
  size_t tokens = 0;
  for (const ScoredText& text : set.texts) tokens += text.tokens.size() - 1;
  ordered_json out{{"name", set.name},
                   {"kind", file.task},
                   {"file", file.path},
                   {"questions", set.questions.size()},
                   {"tokens", tokens}};
  for (const Metric& metric : result->metrics) {
    out[metric.name] = number(metric.value);
    out[metric.name + "_stderr"] = number(metric.stderr_of_value);
  }
  return out;
}

ordered_json perplexity_json(const std::string& path, const char* kind, const Perplexity& measured) {
  const double loss = measured.loss();
  ordered_json out{{"name", fs::path(path).stem().string()},
                   {"kind", kind},
                   {"file", path},
                   {"documents", measured.documents},
                   {"windows", measured.windows},
                   {"tokens", measured.tokens},
                   {"bytes", measured.bytes > 0 ? ordered_json(measured.bytes) : ordered_json()},
                   {"loss", number(loss)},
                   {"loss_stderr", number(measured.loss_stderr)},
                   {"perplexity", number(std::exp(loss))}};
  const double bytes = static_cast<double>(measured.bytes);
  out["bits_per_byte"] = measured.bytes > 0 ? number(measured.nats / std::numbers::ln2 / bytes) : nullptr;
  out["byte_perplexity"] = measured.bytes > 0 ? number(std::exp(measured.nats / bytes)) : nullptr;
  ordered_json positions = ordered_json::array();
  for (const PositionLoss& at : measured.positions)
    if (at.tokens > 0)
      positions.push_back({{"from", at.begin},
                           {"below", at.end},
                           {"tokens", at.tokens},
                           {"loss", number(at.nats / static_cast<double>(at.tokens))}});
  out["by_position"] = std::move(positions);
  return out;
}

std::vector<ordered_json> evaluate_all(const Session& session, std::vector<QuestionFile> files,
                                       const Options& options) {
  std::vector<ordered_json> results;
  for (QuestionFile& file : files) results.push_back(answer_questions(session, file));
  PerplexityOptions measure{
      session.max_length, session.batch_tokens, options.limit,
      session.tokenizer ? session.tokenizer->vocab_size() : session.loaded.config.model.vocab_size};
  for (const std::string& path : options.texts) {
    const Progress progress(path, "tokens", 0);
    results.push_back(perplexity_json(
        path, "text",
        text_perplexity(*session.loaded.model, *session.tokenizer, path, options.text_field, measure,
                        [&](int64_t tokens) { progress.show(static_cast<size_t>(tokens)); })));
  }
  const auto bytes = session.tokenizer ? bytes_per_token(*session.tokenizer) : std::vector<int32_t>();
  for (const std::string& path : options.tokens) {
    const Progress progress(path, "tokens", 0);
    results.push_back(perplexity_json(
        path, "tokens", token_perplexity(*session.loaded.model, path, bytes, measure, [&](int64_t tokens) {
          progress.show(static_cast<size_t>(tokens));
        })));
  }
  return results;
}

std::string shown(const ordered_json& value) {
  if (!value.is_number_float()) return value.is_null() ? "-" : value.dump();
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value.get<double>());
  return text;
}

void print_results(const std::vector<ordered_json>& results) {
  std::vector<Row> rows{{"set", "kind", "measure", "value", "stderr", "of"}};
  for (const ordered_json& result : results) {
    const bool task = result.contains("questions");
    const std::string of = task ? counted(result["questions"].get<int64_t>(), "question")
                                : counted(result["tokens"].get<int64_t>(), "token");
    for (const char* name : {"acc", "acc_norm", "acc_bytes", "loss", "perplexity", "bits_per_byte"}) {
      if (!result.contains(name)) continue;
      const auto error = result.find(std::string(name) + "_stderr");
      rows.push_back({result["name"], result["kind"], name, shown(result[name]),
                      error == result.end() ? "-" : shown(*error), of});
    }
    if (task) continue;
    for (const ordered_json& at : result["by_position"])
      rows.push_back({result["name"], result["kind"],
                      concat("loss at ", at["from"].dump(), " to ", at["below"].get<int64_t>() - 1),
                      shown(at["loss"]), "-", counted(at["tokens"].get<int64_t>(), "token")});
  }
  print_table(rows);
}

void evaluate(const Options& options) {
  std::vector<QuestionFile> files = read_files(options);
  const Session session = open_session(options, !files.empty());
  const auto started = std::chrono::steady_clock::now();
  const auto results = evaluate_all(session, std::move(files), options);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (!options.json) {
    print_results(results);
    log_info(concat("evaluated in ", seconds, " s"));
    return;
  }
  const ordered_json out{{"checkpoint", options.checkpoint},
                         {"step", session.loaded.step},
                         {"device", session.loaded.device.name},
                         {"max_length", session.max_length},
                         {"seconds", seconds},
                         {"results", results}};
  std::cout << out.dump(2, ' ', false, ordered_json::error_handler_t::replace) << '\n';
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Measure a trained model on texts and tasks");
  auto options = std::make_shared<Options>();
  command->add_option("--checkpoint", options->checkpoint, "Run folder, step folder or exported folder")
      ->required();
  const auto files = [&](const char* flag, std::vector<std::string>& to, const char* doc) {
    command->add_option(flag, to, doc)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  };
  files("--text", options->texts, "Perplexity of text or JSON lines: file, folder or pattern; repeatable");
  files("--tokens", options->tokens, "Perplexity of token shards, named as in data.train; repeatable");
  for (size_t i = 0; i < kTasks.size(); ++i) {
    const std::string name = kTasks[i].first;
    const std::string doc = name == "requests"
                                ? "JSONL of {context, continuations, label}; repeatable"
                                : "JSONL of the task as it is distributed (docs/eval.md); repeatable";
    files(("--" + name).c_str(), options->tasks[i], doc.c_str());
  }
  command->add_option("--text-field", options->text_field, "Field of a JSON line that holds its text")
      ->capture_default_str();
  command
      ->add_option("--max-length", options->max_length,
                   "Longest text, in tokens (default: the model's training length)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command
      ->add_option("--batch-tokens", options->batch_tokens,
                   "Tokens of a batch: memory and speed (default: 32768 on a GPU, 2048 on a CPU)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command->add_option("--limit", options->limit, "Only so many questions or documents of each file; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print results as JSON");
  command->add_option("--tokenizer", options->tokenizer, "SentencePiece model (default: the run's)");
  add_device_option(*command, options->device);
  command->callback([options] {
    advise_on_memory("Lower --batch-tokens or --max-length, or use --device cpu.",
                     [&] { evaluate(*options); });
  });
}

}  // namespace transxssm
