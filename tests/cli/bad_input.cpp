// What the program does with bad input: exit code 2, one clear message, nothing half-written.
#include <memory>

#include <signal.h>
#include <sys/resource.h>

#include "cli/bad_input_case.h"
#include "trainer/run_lock.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("bad command lines") {
  check_all({
      {"no verb", "", {"transxssm: needs a command. Valid are train, plan, generate"}},
      {"unknown verb", "trian", {"transxssm: unknown command trian. Did you mean train?", "checkpoint"}},
      {"option before the verb",
       "--set a=1 train",
       {"transxssm: unknown option --set. Valid are --help, --version"}},
      {"unknown verb of a verb",
       "checkpoint foo",
       {"transxssm checkpoint: unknown command foo. Valid are list, inspect, verify, prune"}},
      {"no verb of a verb", "data", {"transxssm data: needs a command. Valid are prepare"}},
      {"unknown option of no verb", "--vresion", {"unknown option --vresion. Did you mean --version?"}},
      {"unknown flag",
       train("--confg x"),
       {"transxssm train: unknown option --confg. Did you mean --config?", "--resume"}},
      {"unknown flag, nothing else", "train --confg=x", {"unknown option --confg=x. Did you mean --config?"}},
      {"too many arguments", "checkpoint list run run", {"transxssm checkpoint list: unknown argument run"}},
      {"missing flag", "train", {"transxssm train: --config is required"}},
      {"no number", "generate --checkpoint run --max-new-tokens many", {"--max-new-tokens"}},
      {"out of range", "generate --checkpoint run --temperature -1", {"--temperature", "-1", "100"}},
      {"seed below 0", "generate --checkpoint run --seed -1", {"--seed", "-1"}},
      {"seed too long", "generate --checkpoint run --seed 99999999999999999999", {"--seed"}},
      {"not a number", "generate --checkpoint run --temperature nan", {"--temperature", "nan"}},
      {"--set without a value", train("--set model.num_layers"), {"model.num_layers"}},
      {"--set of an unknown field", train("--set optimizer.lrr=1"), {"optimizer.lrr", "lr"}},
  });
}

TEST_CASE("bad configurations") {
  check_all({
      {"missing", "train --config no.yaml", {"no.yaml", "No such file"}},
      {"folder", "train --config .", {"is a folder; expected a YAML file"}},
      {"no YAML", train(), {"run.yaml:2: YAML syntax"}, file("run.yaml", "model: [1\n")},
      {"empty", train(), {"run.yaml: is empty"}, file("run.yaml", "")},
      {"unknown key",
       train(),
       {"run.yaml:3", "hiden_size", "hidden_size"},
       edited("hidden_size: 32", "hiden_size: 32")},
      {"repeated key",
       train(),
       {"run.yaml:4", "hidden_size"},
       edited("hidden_size: 32", "hidden_size: 32\n  hidden_size: 32")},
      {"wrong type",
       train(),
       {"run.yaml:3", "model.hidden_size", "wide"},
       edited("hidden_size: 32", "hidden_size: wide")},
      {"list for a number", train("--set model.hidden_size=[3]"), {"model.hidden_size", "a list"}},
      {"out of range", train("--set optimizer.lr=-1"), {"optimizer.lr", "-1"}},
      {"no such choice", train("--set model.residual=lerned"), {"model.residual", "learned"}},
      {"end of document", train("--set data.eod_id=61"), {"data.eod_id", "model.vocab_size is 61"}},
      {"stop_exit_code taken", train("--set train.stop_exit_code=2"), {"train.stop_exit_code"}},
  });
}

TEST_CASE("impossible shapes") {
  check_all({
      {"groups", train("--set model.ssd.num_groups=3"), {"model.ssd.num_groups", "num_heads = 2"}},
      {"kv heads", train("--set model.attention.num_kv_heads=3"), {"model.attention.num_kv_heads"}},
      {"rope of attention", train("--set model.attention.head_dim=15"), {"model.attention.head_dim", "even"}},
      {"rope of SSD", train("--set model.ssd.state_dim=15"), {"model.ssd.state_dim", "even"}},
      {"chunk", train("--set model.ssd.chunk_size=48"), {"model.ssd.chunk_size", "power of two"}},
      {"pattern",
       train("--set model.layers.pattern=SSA"),
       {"model.layers.pattern", "do not divide model.num_layers = 4"}},
      {"pattern letters", train("--set model.layers.pattern=SX"), {"model.layers.pattern", "SX"}},
      {"period", train("--set model.layers.attention_period=3"), {"model.layers.attention_period"}},
      {"batch", train("--set train.micro_batch_size=3"), {"train.global_batch_size", "nearest"}},
  });
}

TEST_CASE("bad token files") {
  const auto resized = [](const std::string& name, size_t size) {
    return [=](const fs::path& folder) { fs::resize_file(folder / name, size); };
  };
  const auto float_tokens = [](const fs::path& folder) {
    std::string index = read_file(folder / "train.idx");
    index[17] = 6;
    write(folder / "train.idx", index);
  };
  check_all(
      {
          {"missing", train("--set data.train=[{\"path\":\"no\"}]"), {"no: no token files found"}},
          {"missing .bin",
           train(),
           {"train.bin", "No such file"},
           [](const fs::path& folder) { fs::remove(folder / "train.bin"); }},
          {"truncated .bin", train(), {"train.bin", "truncated"}, resized("train.bin", 10)},
          {"truncated .idx", train(), {"train.idx", "truncated"}, resized("train.idx", 60)},
          {"short .idx", train(), {"train.idx", "truncated"}, resized("train.idx", 5)},
          {"foreign .idx",
           train(),
           {"train.idx", "not a Megatron index"},
           file("train.idx", std::string(200, 'x'))},
          {"foreign .bin",
           train("--set data.train=[{\"path\":\"other.bin\"}]"),
           {"other.bin", "no llm.c shard"},
           file("other.bin", std::string(2000, 'x'))},
          {"floats", train(), {"train.idx", "dtype code 6"}, float_tokens},
          {"too few tokens", train("--set train.seq_len=65536"), {"train.seq_len 65536 needs 65537"}},
          {"ids out of range",
           train("--set model.vocab_size=32"),
           {"train.bin: token ", "outside the vocabulary of 32"}},
      },
      kRunFolders);
  check_all({
      {"verify a truncated shard", "data verify train", {"train.bin", "truncated"}, resized("train.bin", 10)},
      {"verify nothing", "data verify no", {"no token files found"}},
  });
}

TEST_CASE("bad tokenizers") {
  check_all(
      {
          {"larger than the model",
           train("--set data.tokenizer=tok.model --set data.eod_id=-1"),
           {"tok.model has 400 pieces", "model.vocab_size is 61"},
           add_tokenizer},
          {"missing", train("--set data.tokenizer=no.model --set data.eod_id=-1"), {"no.model"}},
          {"foreign",
           train("--set data.tokenizer=run.yaml --set data.eod_id=-1"),
           {"not a SentencePiece model\n"}},
      },
      kRunFolders);
  check_all({
      {"corpus of another tokenizer",
       "data verify large --tokenizer tok.model",
       {"large", "500"},
       [](const fs::path& folder) {
         add_tokenizer(folder);
         TokenFileWriter writer(folder / "large", 1000);
         writer.add_document(std::vector<int32_t>{1, 500, 2});
         writer.finish();
       }},
      {"another one to generate with",
       "generate --checkpoint run --tokenizer tok.model",
       {"400 pieces", "61"},
       add_checkpoint_and_tokenizer},
  });
}

TEST_CASE("bad text") {
  const std::string good = "{\"text\": \"one\"}\n";
  check_all({
      {"missing", prepare("no.txt"), {"no.txt"}, add_tokenizer},
      {"empty corpus", prepare("a.jsonl"), {"no documents in a.jsonl"}, text_file("a.jsonl", "")},
      {"blank documents",
       prepare("a.jsonl"),
       {"no documents in a.jsonl"},
       text_file("a.jsonl", "{\"text\": \"\"}\n")},
      {"JSON",
       prepare("a.jsonl"),
       {"a.jsonl:2", "JSON", "--skip-bad"},
       text_file("a.jsonl", good + "{\"text\": \"two\n" + good)},
      {"no such field",
       prepare("a.jsonl"),
       {"a.jsonl:2", "text"},
       text_file("a.jsonl", good + "{\"txt\": \"two\"}\n")},
      {"UTF-8 in JSON",
       prepare("a.jsonl"),
       {"a.jsonl:2", "UTF-8", "--skip-bad"},
       text_file("a.jsonl", good + "{\"text\": \"\xff\"}\n")},
      {"UTF-8 in text", prepare("a.txt"), {"a.txt:3", "UTF-8"}, text_file("a.txt", "one\ntwo\n\xff\xfe\n")},
      {"UTF-8 to encode",
       "tokenizer encode --model tok.model --input a.txt",
       {"a.txt: ", "UTF-8 at byte 1"},
       text_file("a.txt", "a\xff")},
      {"nothing but bad documents",
       prepare("a.jsonl --skip-bad"),
       {"no documents", "a.jsonl:1"},
       text_file("a.jsonl", "{\n")},
      {"foreign tokenizer",
       "data prepare --input run.yaml --tokenizer run.yaml --output corpus",
       {"run.yaml"}},
      {"output is a file",
       "data prepare --input run.yaml --tokenizer tok.model --output train.bin",
       {"train.bin"},
       add_tokenizer},
  });
}

TEST_CASE("--skip-bad counts what it leaves out") {
  const TempFolder folder;
  add_tokenizer(folder.path());
  write(folder / "a.jsonl",
        "{\"text\": \"one\"}\n{\n{\"text\": \"\xff\"}\n{\"txt\": 1}\n{\"text\": \"two\"}\n");
  const Ended ended = run_program(folder.path(), words(prepare("a.jsonl --skip-bad")));
  INFO(ended.out << ended.err);
  REQUIRE(ended.code == 0);
  REQUIRE(contains(ended.out, "corpus/train: 2 documents"));
  REQUIRE(contains(ended.out, "skipped: 3 bad documents"));
  for (const std::string line : {"a.jsonl:2", "a.jsonl:3", "a.jsonl:4"}) REQUIRE(contains(ended.err, line));
}

TEST_CASE("bad checkpoints") {
  const std::string step = "run/checkpoints/step_00000002";
  check_all(
      {
          {"another model",
           train("--set model.intermediate_size=64"),
           {"another configuration", "model.intermediate_size: 48 -> 64",
            "--allow-change model.intermediate_size"},
           add_checkpoint},
          {"another model, change allowed",
           train("--set train.max_steps=2 --set model.intermediate_size=64 --allow-change "
                 "model.intermediate_size"),
           {"shape [48, 32], this model needs [64, 32]"},
           add_checkpoint},
          {"another model to start from",
           train("--set model.intermediate_size=64 --set train.run_dir=second --init-from run"),
           {"shape [48, 32], this model needs [64, 32]"},
           add_checkpoint},
          {"--resume none in vain", train("--resume none"), {"--resume none", "run"}, add_checkpoint},
          {"--resume of nothing", train("--resume no"), {"no checkpoint at no"}},
          {"--resume of a file", train("--resume run.yaml"), {"no checkpoint at run.yaml"}},
          {"--resume of another folder", train("--resume ."), {"no valid checkpoint in ."}},
          {"only damaged ones", train(), {"none is valid", "step_00000002"}, add_damaged_checkpoint},
      },
      kRunFolders);
  check_all({
      {"verify", "checkpoint verify run", {"1 checkpoint is damaged"}, add_damaged_checkpoint},
      {"verify nothing", "checkpoint verify .", {"no checkpoints in ."}},
      {"inspect nothing", "checkpoint inspect no", {"no checkpoint at no"}},
      {"generate without a tokenizer", "generate --checkpoint run", {"tokenizer"}, add_checkpoint},
      {"generate from nothing",
       "generate --checkpoint . --tokenizer tok.model",
       {"no valid checkpoint in ."},
       add_tokenizer},
      {"generate from a damaged one",
       "generate --checkpoint " + step + " --tokenizer tok.model",
       {step},
       [](const fs::path& folder) {
         add_damaged_checkpoint(folder);
         add_tokenizer(folder);
       }},
  });
}

TEST_CASE("a refused resume leaves config.yaml and manifest.json of the run as they were") {
  check(
      {"another model", train("--set model.intermediate_size=64"), {"another configuration"}, add_checkpoint},
      {"run/log.txt", "run/status.json", "run/tensorboard"});
}

TEST_CASE("bad places") {
  check({"run folder below a file", train("--set train.run_dir=run.yaml/x"), {"run.yaml is a file"}});
  // Nobody can make a folder there, root included.
  check({"read-only run folder", train("--set train.run_dir=/sys/x"), {"cannot make the folder /sys/x"}});
  // Before the work, which the missing input would end.
  check({"read-only model", "tokenizer train --input no.txt --output /sys/x", {"cannot write /sys/x.model"}});
  check({"read-only output",
         "data prepare --input run.yaml --tokenizer tok.model --output /sys/x",
         {"cannot make the folder /sys/x"},
         add_tokenizer});
  std::unique_ptr<RunLock> held;
  check({"run folder in use",
         train(),
         {"run is in use by process ", "another train.run_dir"},
         [&](const fs::path& folder) {
           fs::create_directory(folder / "run");
           held = std::make_unique<RunLock>(folder / "run/lock");
         }});
  held.reset();
  // A limit on the size of files stands for a full disk.
  const auto full_disk = [] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{2000, 2000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  check({"no space for shards",
         prepare("a.txt"),
         {"corpus/train/shard-00000.bin: can't be written"},
         text_file("a.txt", std::string(100'000, 'x'))},
        {}, full_disk);
}

TEST_CASE("a result that can't be printed is an error, not lost in silence") {
  const TempFolder folder;
  const auto full_output = [] { ::dup2(::open("/dev/full", O_WRONLY), 1); };
  for (const std::string arguments : {"config schema", "--help"}) {
    const Ended ended = run_program(folder.path(), words(arguments), full_output);
    INFO(arguments << ": " << ended.err);
    REQUIRE(ended.code == kBadInput);
    REQUIRE(contains(ended.err, "standard output can't be written"));
  }
}

TEST_CASE("CUDA asked for and absent") {
  if (fs::exists("/dev/nvidiactl")) return;
  check({"train", train("--set train.device=cuda"), {"train.device is cuda", "cpu"}}, kRunFolders);
  check({"generate",
         "generate --checkpoint run --tokenizer tok.model --device cuda",
         {"--device is cuda", "set --device to auto or cpu"},
         add_checkpoint_and_tokenizer});
}
