#include "cli/generate.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "data/utf8.h"
#include "generate/prompt_file.h"
#include "generate/run_batch.h"
#include "generate/text_stream.h"
#include "trainer/inference.h"
#include "trainer/paths.h"

namespace transxssm {
namespace {

struct Options {
  std::string checkpoint;
  std::optional<std::string> prompt, prompt_ids;
  std::string prompts, prompts_format = "auto", output = "auto";
  std::vector<std::string> stops;
  std::string tokenizer;
  std::string device = "auto";
  int64_t max_new_tokens = 200, max_context = 0, batch_size = 16;
  uint64_t seed = 1;
  SamplingOptions sampling{.temperature = 0.8, .top_p = 0.95};
};

enum class Output { text, ids, json };

void check_options(const Options& options) {
  for (const auto& [flag, value] : {std::pair("--temperature", options.sampling.temperature),
                                    std::pair("--top-p", options.sampling.top_p)})
    expect_input(std::isfinite(value), concat(flag, " is ", value, "; it must be a finite number"));
  for (const std::string& stop : options.stops) {
    expect_input(!stop.empty(), "--stop is empty; it must be a text that ends the output");
    expect_input(find_invalid_utf8(stop) == std::string::npos, "--stop is not valid UTF-8");
  }
}

std::vector<Prompt> read_prompt_file(const Options& options) {
  const bool standard_input = options.prompts == "-";
  const bool jsonl = options.prompts_format == "auto" ? options.prompts.ends_with(".jsonl")
                                                      : options.prompts_format == "jsonl";
  const auto format = jsonl ? PromptFormat::jsonl : PromptFormat::lines;
  if (standard_input) return read_prompts(std::cin, "standard input", format);
  std::ifstream file(options.prompts);
  expect_input(file.is_open(), concat("--prompts ", options.prompts, ": can't be opened"));
  return read_prompts(file, options.prompts, format);
}

std::vector<Prompt> prompts_of(const Options& options) {
  if (!options.prompts.empty()) return read_prompt_file(options);
  Prompt prompt{{}, {}, {}, "--prompt"};
  if (options.prompt_ids) {
    prompt.where = "--prompt-ids";
    prompt.ids = parse_ids(*options.prompt_ids, prompt.where);
  } else {
    expect_input(!options.prompt || !options.prompt->empty(),
                 "--prompt is empty; leave it out to begin a new document");
    prompt.text = options.prompt.value_or("");
  }
  return {prompt};
}

Output output_of(const Options& options, size_t prompts) {
  if (options.output == "auto") return prompts == 1 ? Output::text : Output::json;
  if (options.output == "text") return Output::text;
  return options.output == "ids" ? Output::ids : Output::json;
}

// Null where it is not needed, ids come in and go out, and there is none.
std::unique_ptr<Tokenizer> load_tokenizer(const Options& options, const std::vector<Prompt>& prompts,
                                          Output output) {
  const bool has_text =
      std::any_of(prompts.begin(), prompts.end(), [](const Prompt& p) { return p.text.has_value(); });
  const bool needed =
      has_text || output != Output::ids || !options.stops.empty() || !options.tokenizer.empty();
  try {
    return std::make_unique<Tokenizer>(find_tokenizer(options.checkpoint, options.tokenizer));
  } catch (const InputError&) {
    if (needed) throw;
    return nullptr;
  }
}

// Model, tokenizer, and prompts as ids.
struct Session {
  InferenceModel loaded;
  std::unique_ptr<Tokenizer> tokenizer;
  int64_t vocab_size = 0;
  int64_t eos_id = -1;
  int64_t max_context = 0;
  std::vector<RowRequest> rows;
};

void check_ids(const std::vector<int64_t>& ids, int64_t vocab_size, const std::string& where) {
  for (const int64_t id : ids)
    expect_input(id >= 0 && id < vocab_size,
                 concat(where, ": token id ", id, " is outside the vocabulary (0 to ", vocab_size - 1, ")"));
}

RowRequest to_request(const Prompt& prompt, const Session& session, const Options& options) {
  RowRequest row;
  row.decode.seed = prompt.seed.value_or(options.seed);
  row.decode.prompt = prompt.ids;
  if (prompt.text) {
    row.decode.prompt.push_back(session.tokenizer->bos_id());
    try {
      for (const int32_t id : session.tokenizer->encode(*prompt.text)) row.decode.prompt.push_back(id);
    } catch (const InputError& error) {
      throw InputError(concat(prompt.where, ": ", error.what()));
    }
  }
  check_ids(row.decode.prompt, session.vocab_size, prompt.where);
  const auto length = static_cast<int64_t>(row.decode.prompt.size());
  expect_input(length < session.max_context,
               concat(prompt.where, ": the prompt has ", counted(length, "token"), ", and the limit is ",
                      session.max_context, " with what is generated; --max-context raises it"));
  row.max_new_tokens = std::min(options.max_new_tokens, session.max_context - length);
  return row;
}

Session open_session(const Options& options, const std::vector<Prompt>& prompts, Output output) {
  Session session;
  session.tokenizer = load_tokenizer(options, prompts, output);
  session.loaded = load_for_inference(options.checkpoint, device_named(options.device), /*max_positions=*/1);
  const RunConfig& config = session.loaded.config;
  session.vocab_size = config.model.vocab_size;
  session.eos_id = config.data.eod_id;
  if (session.tokenizer) {
    check_tokenizer(*session.tokenizer, session.loaded);
    session.vocab_size = session.tokenizer->vocab_size();
    session.eos_id = session.tokenizer->eos_id();
  }
  session.max_context = options.max_context > 0 ? options.max_context : config.train.seq_len;
  for (const Prompt& prompt : prompts) session.rows.push_back(to_request(prompt, session, options));
  return session;
}

// What becomes of one row's tokens.
class Answer {
 public:
  Answer(const Session& session, const Options& options, const RowRequest& row)
      : tokenizer_(session.tokenizer.get()) {
    if (!tokenizer_) return;
    const std::vector<int32_t> ids(row.decode.prompt.begin(), row.decode.prompt.end());
    prompt_ = tokenizer_->decode(ids);
    stream_.emplace(*tokenizer_, !prompt_.empty(), options.stops);
  }
  const std::string& prompt() const { return prompt_; }
  const std::string& text() const { return text_; }
  const std::vector<int64_t>& ids() const { return ids_; }

  // Text that is certain now, and whether more is wanted.
  std::pair<std::string, bool> add(int64_t id) {
    ids_.push_back(id);
    if (!stream_) return {"", true};
    const std::string more = stream_->push(static_cast<int32_t>(id));
    text_ += more;
    return {more, !stream_->stopped()};
  }
  std::string finish() {
    const std::string rest = stream_ ? stream_->finish() : "";
    text_ += rest;
    return rest;
  }

 private:
  const Tokenizer* tokenizer_;
  std::optional<TextStream> stream_;
  std::string prompt_, text_;
  std::vector<int64_t> ids_;
};

void print_answer(const Answer& answer, Output output, size_t index, Finish finish) {
  if (output == Output::text) {
    std::cout << answer.prompt() << answer.text() << '\n';
  } else if (output == Output::ids) {
    for (size_t i = 0; i < answer.ids().size(); ++i) std::cout << (i > 0 ? " " : "") << answer.ids()[i];
    std::cout << '\n';
  } else {
    const nlohmann::ordered_json line = {{"index", index},
                                         {"prompt", answer.prompt()},
                                         {"text", answer.text()},
                                         {"ids", answer.ids()},
                                         {"finish", name_of(finish)}};
    // A prompt given as ids may be no UTF-8.
    std::cout << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
  }
  std::cout << std::flush;
}

// Prints the prompt and then text as soon as it is certain.
void stream_one(Decoder& decoder, const Session& session, const Options& options) {
  Answer answer(session, options, session.rows.front());
  std::cout << answer.prompt() << std::flush;
  run_batch(decoder, session.rows, session.eos_id, [&](size_t, int64_t token) {
    const auto [text, more] = answer.add(token);
    std::cout << text << std::flush;
    return more;
  });
  std::cout << answer.finish() << '\n';
}

void print_batches(Decoder& decoder, const Session& session, const Options& options, Output output,
                   size_t batch) {
  for (size_t first = 0; first < session.rows.size(); first += batch) {
    const size_t end = std::min(first + batch, session.rows.size());
    const std::vector<RowRequest> rows(session.rows.begin() + static_cast<std::ptrdiff_t>(first),
                                       session.rows.begin() + static_cast<std::ptrdiff_t>(end));
    std::vector<Answer> answers;
    for (const RowRequest& row : rows) answers.emplace_back(session, options, row);
    const auto ends = run_batch(decoder, rows, session.eos_id,
                                [&](size_t row, int64_t token) { return answers[row].add(token).second; });
    for (size_t row = 0; row < rows.size(); ++row) {
      answers[row].finish();
      print_answer(answers[row], output, first + row, ends[row]);
    }
  }
}

// The decoder that all rows fit.
DecoderOptions decoder_options(const Session& session, const Options& options) {
  constexpr int64_t kPrefillTokens = int64_t{1} << 17;  // of a batch in one pass: bounds its memory
  DecoderOptions out{.vocab_size = session.vocab_size, .sampling = options.sampling};
  int64_t longest = 0;
  for (const RowRequest& row : session.rows) {
    out.max_new_tokens = std::max(out.max_new_tokens, row.max_new_tokens);
    longest = std::max(longest, static_cast<int64_t>(row.decode.prompt.size()));
  }
  out.batch = std::min({options.batch_size, static_cast<int64_t>(session.rows.size()),
                        std::max<int64_t>(kPrefillTokens / longest, 1)});
  out.capacity = longest + out.max_new_tokens;  // short prompts may be drawn on beyond their limit
  return out;
}

void generate(const Options& options) {
  check_options(options);
  const std::vector<Prompt> prompts = prompts_of(options);
  const Output output = output_of(options, prompts.size());
  Session session = open_session(options, prompts, output);
  const DecoderOptions decoding = decoder_options(session, options);
  session.loaded.bind(decoding.capacity);
  log_info(concat("step ", session.loaded.step, " on ", session.loaded.device.name));
  log_paths(session.loaded.config, session.loaded.device, Decoding::yes);
  Decoder decoder(*session.loaded.model, decoding);
  if (output == Output::text && session.rows.size() == 1)
    stream_one(decoder, session, options);
  else
    print_batches(decoder, session, options, output, static_cast<size_t>(decoding.batch));
}

void add_prompt_options(CLI::App& command, Options& options) {
  CLI::Option* prompt =
      command.add_option("--prompt", options.prompt, "Text to continue (default: none, a new document)");
  CLI::Option* ids = command.add_option("--prompt-ids", options.prompt_ids,
                                        "Token ids to continue, taken as they are: \"1 5043 318\"");
  CLI::Option* file = command.add_option(
      "--prompts", options.prompts,
      "File of prompts, - for standard input: a text a line, or JSON lines {\"prompt\": text} or "
      "{\"ids\": [1, 2]}, each with \"seed\" if wanted");
  prompt->excludes(ids)->excludes(file);
  ids->excludes(file);
  command
      .add_option("--prompts-format", options.prompts_format, "auto: JSON lines if the name ends in .jsonl")
      ->check(CLI::IsMember({"auto", "lines", "jsonl"}))
      ->capture_default_str();
}

void add_sampling_options(CLI::App& command, Options& options) {
  command.add_option("--temperature", options.sampling.temperature, "0 takes the most likely token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command.add_option("--top-k", options.sampling.top_k, "Draw among the k most likely tokens; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->capture_default_str();
  command
      .add_option("--top-p", options.sampling.top_p,
                  "Draw among the fewest tokens with this much probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      .add_option("--seed", options.seed, "The same seed gives a prompt the same text, alone or among others")
      ->check(seed_range())
      ->capture_default_str();
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Continue prompts with a trained model");
  auto options = std::make_shared<Options>();
  command->add_option("--checkpoint", options->checkpoint, "Run folder, step folder or exported folder")
      ->required();
  add_prompt_options(*command, *options);
  command->add_option("--max-new-tokens", options->max_new_tokens, "Stop after so many tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command
      ->add_option("--max-context", options->max_context,
                   "Most tokens of a prompt and its continuation; 0: as many as the model was trained with")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--stop", options->stops, "Text before which the output ends (may be repeated)")
      ->allow_extra_args(false);
  add_sampling_options(*command, *options);
  command->add_option("--batch-size", options->batch_size, "Prompts that decode together")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  command
      ->add_option("--output", options->output,
                   "text: prompt and continuation; ids: generated token ids; json: an object a prompt; auto: "
                   "text for one prompt, streamed, json for several")
      ->check(CLI::IsMember({"auto", "text", "ids", "json"}))
      ->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer, "SentencePiece model (default: the run's)");
  add_device_option(*command, options->device);
  command->callback([options] {
    advise_on_memory("Lower --batch-size, --max-new-tokens or the prompts' lengths, or use --device cpu.",
                     [&] { generate(*options); });
  });
}

}  // namespace transxssm
