// Promises of `transxssm generate`: the same text for a prompt alone and among others, for a seed, and for
// every way to hand it in.
#include <algorithm>
#include <sstream>

#include <nlohmann/json.hpp>

#include "bad_input_case.h"
#include "data/utf8.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

using Json = nlohmann::json;

// A folder with a run of two steps, its tokenizer beside it.
struct Trained {
  Trained() {
    add_tokenizer(run.folder.path());
    RunConfig config = run.config();
    config.train.run_dir = "run";
    config.data.train = {{"train", std::nullopt}};
    config.data.validation.clear();
    config.model.vocab_size = 400;
    config.model.init_std = 0.2;
    write(run.folder / "run.yaml", to_yaml(config));
    add_checkpoint(run.folder.path());
  }
  Ended generate(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"generate", "--checkpoint", "run"};
    if (std::find(more.begin(), more.end(), "--output=ids") == more.end())
      all.insert(all.end(), {"--tokenizer", "tok.model"});
    all.insert(all.end(), more.begin(), more.end());
    return run_program(run.folder.path(), all);
  }
  std::string out(const std::vector<std::string>& more) const {
    const Ended ended = generate(more);
    INFO(ended.err);
    REQUIRE(ended.code == 0);
    return ended.out;
  }
  std::vector<Json> answers(std::vector<std::string> more) const {
    more.push_back("--output=json");
    std::istringstream lines(out(more));
    std::vector<Json> all;
    for (std::string line; std::getline(lines, line);) all.push_back(Json::parse(line));
    return all;
  }
  TinyRun run;
};

const Trained& trained() {
  static const Trained one;
  return one;
}

const std::vector<std::string> kPrompts{"The License", "You may", "as", "Unless required by applicable law,"};

std::string write_lines(const std::string& name) {
  std::string lines;
  for (const std::string& prompt : kPrompts) lines += prompt + "\n";
  write(trained().run.folder / name, lines);
  return name;
}

}  // namespace

TEST_CASE("generate: a prompt gets the same alone, among others, and in batches of any size") {
  const std::string file = write_lines("prompts.txt");
  const std::string temperature = GENERATE("--temperature=0", "--temperature=1");
  const std::vector<std::string> common{temperature, "--seed=3", "--max-new-tokens=12", "--top-k=50",
                                        "--max-context=60"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), common.begin(), common.end());
    return more;
  };
  const auto together = trained().answers(with({"--prompts", file}));
  REQUIRE(together.size() == kPrompts.size());
  REQUIRE(trained().answers(with({"--prompts", file, "--batch-size=1"})) == together);
  REQUIRE(trained().answers(with({"--prompts", file, "--batch-size=3"})) == together);
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    CAPTURE(kPrompts[i]);
    REQUIRE(together[i].at("index") == i);
    REQUIRE(together[i].at("prompt") == kPrompts[i]);
    const Json alone = trained().answers(with({"--prompt", kPrompts[i]})).front();
    REQUIRE(alone.at("ids") == together[i].at("ids"));
    REQUIRE(alone.at("text") == together[i].at("text"));
    // Streamed text is the same.
    REQUIRE(trained().out(with({"--prompt", kPrompts[i]})) ==
            kPrompts[i] + together[i].at("text").get<std::string>() + "\n");
  }
}

TEST_CASE("generate: a seed fixes the text, another one changes it, JSON lines may bring their own") {
  const std::vector<std::string> common{"--prompt", "The", "--temperature=1", "--max-new-tokens=20"};
  const auto with_seed = [&](const std::string& seed) {
    auto all = common;
    all.push_back("--seed=" + seed);
    return trained().answers(all).front().at("ids");
  };
  REQUIRE(with_seed("7") == with_seed("7"));
  REQUIRE(with_seed("7") != with_seed("8"));
  write(trained().run.folder / "seeds.jsonl",
        "{\"prompt\": \"The\", \"seed\": 7}\n{\"prompt\": \"The\", \"seed\": 8}\n{\"prompt\": \"The\"}\n");
  const auto own =
      trained().answers({"--prompts=seeds.jsonl", "--temperature=1", "--max-new-tokens=20", "--seed=7"});
  REQUIRE(own[0].at("ids") == with_seed("7"));
  REQUIRE(own[1].at("ids") == with_seed("8"));
  REQUIRE(own[2].at("ids") == with_seed("7"));
}

TEST_CASE("generate: ids go in and out without a tokenizer") {
  const std::string ids =
      trained().out({"--prompt-ids=1 30, 31", "--output=ids", "--max-new-tokens=9", "--temperature=0"});
  REQUIRE(!words(ids).empty());
  write(trained().run.folder / "ids.jsonl", "{\"ids\": [1, 30, 31]}\n");
  REQUIRE(trained().out({"--prompts=ids.jsonl", "--output=ids", "--max-new-tokens=9", "--temperature=0"}) ==
          ids);
}

TEST_CASE("generate: the output ends before a stop string") {
  const std::vector<std::string> common{"--prompt=The", "--temperature=0", "--max-new-tokens=20"};
  const std::string whole = trained().answers(common).front().at("text");
  REQUIRE(whole.size() > 8);
  const size_t begin = utf8_border(whole, whole.size() / 2);
  const std::string stop = whole.substr(begin, utf8_border(whole, begin + 4) - begin);
  auto stopped = common;
  stopped.push_back("--stop=" + stop);
  const Json answer = trained().answers(stopped).front();
  REQUIRE(answer.at("text") == whole.substr(0, whole.find(stop)));
  REQUIRE(answer.at("finish") == "stop");
}

TEST_CASE("generate: prompt and continuation stay within the context") {
  // Trained with 24 tokens.
  const auto answers = trained().answers({"--prompt-ids=1 5 6 7", "--temperature=0"});
  REQUIRE(answers.front().at("ids").size() <= 20);
  const auto more = trained().answers({"--prompt-ids=1 5 6 7", "--temperature=0", "--max-context=40"});
  REQUIRE(more.front().at("ids").size() <= 36);
}

TEST_CASE("generate: bad prompts get one clear error") {
  struct Bad {
    std::vector<std::string> arguments;
    Words says;
  };
  const auto& folder = trained().run.folder;
  write(folder / "empty.txt", "");
  write(folder / "gap.txt", "one\n\nthree\n");
  write(folder / "broken.jsonl", "{\"prompt\": \"one\"}\n{\"prompt\": \"two\"\n");
  write(folder / "unknown.jsonl", "{\"promt\": \"one\"}\n");
  write(folder / "both.jsonl", "{\"prompt\": \"one\", \"ids\": [1]}\n");
  write(folder / "blank.jsonl", "{\"prompt\": \"\"}\n");
  write(folder / "ids.jsonl", "{\"ids\": [1, 400]}\n");
  write(folder / "huge.jsonl", "{\"ids\": [1, 18446744073709551615]}\n");
  write(folder / "latin1.txt", "caf\xE9\n");
  const std::vector<Bad> cases{
      {{"--prompt", ""}, {"--prompt is empty"}},
      {{"--prompt-ids", ""}, {"--prompt-ids has no token ids"}},
      {{"--prompt-ids=1 x"}, {"'x' is no token id"}},
      {{"--prompt-ids=1 400"}, {"--prompt-ids", "400", "0 to 399"}},
      {{"--prompt-ids=-1"}, {"-1", "0 to 399"}},
      {{"--prompt=a", "--prompt-ids=1"}, {"--prompt"}},
      {{"--prompts=none.txt"}, {"none.txt", "can't be opened"}},
      {{"--prompts=empty.txt"}, {"empty.txt", "holds no prompt"}},
      {{"--prompts=gap.txt"}, {"gap.txt:2", "empty"}},
      {{"--prompts=broken.jsonl"}, {"broken.jsonl:2", "not a JSON object"}},
      {{"--prompts=unknown.jsonl"}, {"unknown.jsonl:1", "promt"}},
      {{"--prompts=both.jsonl"}, {"both.jsonl:1", "one of prompt and ids"}},
      {{"--prompts=blank.jsonl"}, {"blank.jsonl:1", "empty"}},
      {{"--prompts=ids.jsonl"}, {"ids.jsonl:1", "400"}},
      {{"--prompts=huge.jsonl"}, {"huge.jsonl:1", "ids has 18446744073709551615, which is no token id"}},
      {{"--prompts=latin1.txt"}, {"latin1.txt:1", "UTF-8"}},
      {{"--prompt-ids=1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"}, {"24 tokens", "--max-context"}},
      {{"--stop", ""}, {"--stop is empty"}},
      {{"--batch-size=0"}, {"--batch-size"}},
  };
  for (const Bad& bad : cases) {
    CAPTURE(bad.arguments);
    const Ended ended = trained().generate(bad.arguments);
    INFO(ended.err);
    REQUIRE(ended.code == kBadInput);
    REQUIRE(ended.out.empty());
    for (const std::string& part : bad.says) REQUIRE(contains(ended.err, part));
  }
}
