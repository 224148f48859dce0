#include "trainer/launch.h"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpointer.h"
#include "checkpoint/locate.h"
#include "checkpoint/reader.h"
#include "config/changes.h"
#include "config/load.h"
#include "config/schedule.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/logging.h"
#include "core/version.h"
#include "data/corpus_check.h"
#include "data/tokenizer.h"
#include "model/accounting.h"
#include "model/mixer.h"
#include "ops/attention.h"
#include "ops/gemm.h"
#include "ops/ssd.h"
#include "parallel/agreement.h"
#include "trainer/errors.h"
#include "trainer/inference.h"
#include "trainer/paths.h"
#include "trainer/plan.h"
#include "trainer/run_folder.h"
#include "trainer/stop.h"
#include "trainer/trainer.h"

namespace transxssm {
namespace {

constexpr int kBadInput = 2;  // exit code

// Checks that tokenizer, data and model fit together.
TokenizerFacts tokenizer_facts(const RunConfig& config) {
  const int64_t vocab_size = config.model.vocab_size;
  if (config.data.tokenizer.empty()) {
    check_corpus(config.data, "", vocab_size, static_cast<int32_t>(config.data.eod_id));
    return {};
  }
  const Tokenizer tokenizer(config.data.tokenizer);
  expect_input(tokenizer.vocab_size() <= vocab_size,
               concat("data.tokenizer: ", config.data.tokenizer, " has ", tokenizer.vocab_size(),
                      " pieces, but model.vocab_size is ", vocab_size, "; it must be at least as large"));
  check_corpus(config.data, tokenizer.hash(), vocab_size, tokenizer.eos_id());
  if (tokenizer.vocab_size() < vocab_size)
    log_info(concat("model.vocab_size ", vocab_size, " is padded: the tokenizer has ", tokenizer.vocab_size(),
                    " pieces"));
  return {tokenizer.hash(), bytes_per_token(tokenizer)};
}

void describe(const RunConfig& config, const ComputeDevice& device) {
  const auto counts = count_parameters(config.model);
  log_info("configuration:\n" + to_yaml(config));
  log_info(concat("device: ", device.name, "; parameters: ", counts.total, " (", counts.non_embedding,
                  " without embeddings)"));
  log_paths(config, device);
  warn_if_shortened(config);
}

// What a run that met `shortage` needs less memory with.
std::string out_of_memory_advice(const RunConfig& config, const std::string& shortage) {
  return concat("out of memory: ", shortage, "\nLower train.micro_batch_size (now ",
                config.train.micro_batch_size, "), ",
                config.train.recompute == Recompute::full ? "" : "set train.recompute: full, ",
                "shorten train.seq_len (now ", config.train.seq_len, ") or choose a smaller model");
}

// Leaves in the run folder what it was started with. After start(): a refused resume changes nothing there.
void record(const RunConfig& config, const ComputeDevice& device, const StartPlan& plan,
            const RunFolder& folder) {
  folder.write_config(to_yaml(config));
  folder.write_manifest({{"started", utc_time()},
                         {"commit", kCommit},
                         {"libtorch", kTorchVersion},
                         {"cuda", kCudaVersion},
                         {"device", device.name},
                         {"parameters", count_parameters(config.model).total}});
  if (!config.data.tokenizer.empty())  // a run folder can be used without the files it was made from
    write_file_atomically(folder.path() / kRunTokenizerName, read_file(config.data.tokenizer));
  else if (plan.kind == StartPlan::Kind::init_from)
    copy_tokenizer(plan.checkpoint, folder.path());
}

RunConfig planned_config(const RunConfig& given, const LaunchOptions& options, const StartPlan& plan,
                         const TokenizerFacts& tokenizer) {
  expect_fields("--allow-change", options.allow_change);
  if (plan.kind == StartPlan::Kind::init_from) {
    const std::string trained = trained_tokenizer_hash(plan.checkpoint);
    if (!trained.empty() && !tokenizer.hash.empty())
      expect_tokenizer(trained, tokenizer.hash, options.allow_change);
  }
  if (plan.kind != StartPlan::Kind::resume) return given;
  const Manifest manifest = read_manifest(plan.checkpoint);
  expect_tokenizer(manifest.run.value("tokenizer", tokenizer.hash), tokenizer.hash, options.allow_change);
  return resumed_config(manifest.run.at("config"), given, manifest.step, options.allow_change);
}

void start(Trainer& trainer, const RunConfig& config, const StartPlan& plan) {
  if (plan.kind == StartPlan::Kind::fresh) {
    log_info(concat("starting afresh with seed ", config.train.seed));
    trainer.start_fresh();
    return;
  }
  if (plan.kind == StartPlan::Kind::init_from) {
    log_info(concat("starting at step 0 with the weights of ", plan.checkpoint.string()));
    trainer.start_from_weights(plan.checkpoint);
    return;
  }
  const CheckpointReader checkpoint(plan.checkpoint);
  trainer.resume(checkpoint);
  log_info(concat("going on from ", plan.checkpoint.string(), " (step ", trainer.step(), ")"));
}

// With an explicit checkpoint to resume from, the same command would go back to that one.
std::string how_to_go_on(const LaunchOptions& options) {
  return options.resume == "auto" ? "the same command goes on from here"
                                  : "the same command without --resume goes on from here";
}

// Where a run stands that failed before it got anywhere.
int64_t newest_step(const RunFolder& folder) {
  const auto checkpoints = list_checkpoints(folder.path());
  return checkpoints.empty() ? 0 : checkpoints.back().step;
}

// What the first rank owns: the folder, locked.
struct Output {
  std::optional<RunFolder> folder;

  void set_status(const RunStatus& status) const {
    if (folder) folder->set_status(status);
  }
};

StartPlan shared_plan(const Mesh& mesh, const RunConfig& given, const LaunchOptions& options) {
  const std::string text = with_shared_checks(mesh, [&](const DamageOf& damage) {
    const StartPlan plan = plan_start(options, given.train.run_dir, damage);
    return std::to_string(static_cast<int>(plan.kind)) + plan.checkpoint.string();
  });
  return {static_cast<StartPlan::Kind>(text[0] - '0'), text.substr(1)};
}

int train(const RunConfig& given, const LaunchOptions& options, Mesh& mesh, Output& output,
          std::optional<Trainer>& made) {
  ComputeDevice device;
  TokenizerFacts tokenizer;
  agreed(mesh, [&] {
    device = choose_device(given.train.device, given.precision.compute);
    tokenizer = tokenizer_facts(given);
  });
  mesh.expect_same("the kind of device", device.device.is_cuda() ? "a GPU" : "a CPU");
  mesh.expect_same("the tokenizer", tokenizer.hash);
  std::string data;
  agreed(mesh, [&] { data = data_fingerprint(given.data); });
  mesh.expect_same("the hash of the data", data);
  std::optional<Checkpointer> checkpointer;  // which clears up before checkpoints are looked for
  agreed(mesh, [&] {
    checkpointer.emplace(RunFolder::checkpoints_in(given.train.run_dir),
                         Retention{given.checkpoint.keep_last, given.checkpoint.keep_every}, mesh);
  });
  const StartPlan plan = shared_plan(mesh, given, options);
  const RunConfig config = planned_config(given, options, plan, tokenizer);
  describe(config, device);
  expect_room(config, device, free_memory(device), mesh.size());
  const MemoryPlan memory = plan_memory(config, device, mesh.size());
  log_info(concat("memory: ", format_bytes(memory.peak()), " expected at the peak: ", memory.text()));
  mesh.connect(device.device);
  Trainer& trainer = made.emplace(config, device, mesh, output.folder ? &*output.folder : nullptr,
                                  std::move(*checkpointer), tokenizer);
  start(trainer, config, plan);
  if (output.folder) record(config, device, plan, *output.folder);
  output.set_status({RunState::running, trainer.step(), "", std::nullopt});
  const auto reason = trainer.run();
  log_info(concat("memory: ", format_bytes(memory_peak(device)), " used at the peak, ",
                  format_bytes(memory.peak()), " expected"));
  const int exit_code = reason ? static_cast<int>(config.train.stop_exit_code) : 0;
  log_info(reason ? concat("stopped at step ", trainer.step(), ": ", *reason, "; ", how_to_go_on(options))
                  : concat("finished at step ", trainer.step()));
  output.set_status(
      {reason ? RunState::stopped : RunState::finished, trainer.step(), reason.value_or(""), exit_code});
  return exit_code;
}

}  // namespace

int launch_training(const RunConfig& config, const LaunchOptions& options, Mesh mesh) {
  install_stop_signals();
  // cuBLAS gives the same bits from run to run only with a fixed workspace; read when its first handle is
  // made.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  Output output;
  if (!mesh.is_first()) log_errors_only();
  mesh.expect_same("the program's commit", kCommit);
  const std::string text = to_yaml(config);
  mesh.expect_same("the hash of the configuration", hash_bytes(text.data(), text.size()));
  on_first(mesh, [&] {
    output.folder.emplace(config.train.run_dir);
    log_to_file(output.folder->log());
    return "";
  });
  std::optional<Trainer> trainer;
  mesh.on_failure([&](const std::string& reason, int exit_code) {
    output.set_status({RunState::failed, trainer ? trainer->step() : 0, reason, exit_code});
  });
  const auto failed = [&](const std::string& reason, int exit_code) {
    if (!output.folder) return;
    const RunFolder& folder = *output.folder;
    if (!trainer && folder.is_finished()) return;  // a refused start leaves a finished run as it is
    try {
      folder.set_status({RunState::failed,
                         trainer && trainer->step() > 0 ? trainer->step() : newest_step(folder), reason,
                         exit_code});
    } catch (const std::exception& error) {  // the reason is what the user has to see
      log_warning(concat("status.json was not written: ", error.what()));
    }
  };
  try {
    return train(config, options, mesh, output, trainer);
  } catch (const InputError& error) {
    failed(error.what(), kBadInput);
    mesh.announce_failure(error.what(), kBadInput);
    throw;
  } catch (const std::exception& error) {
    if (const auto shortage = out_of_memory(error)) {
      const std::string message = out_of_memory_advice(config, *shortage);
      failed(message, kBadInput);
      mesh.announce_failure(message, kBadInput);
      throw InputError(message);
    }
    failed(message_of(error), 1);
    mesh.announce_failure(message_of(error));
    throw;
  }
}

}  // namespace transxssm
