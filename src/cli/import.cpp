#include "cli/import.h"

#include <filesystem>
#include <memory>
#include <string>

#include "checkpoint/checkpointer.h"
#include "checkpoint/locate.h"
#include "config/load.h"
#include "core/check.h"
#include "core/logging.h"
#include "core/version.h"
#include "export/folder.h"
#include "export/foreign_tokenizer.h"
#include "trainer/inference.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

struct Options {
  std::string from;
  std::string to;
};

// A run folder with one checkpoint, step 0, that holds weights only.
void import_model(const Options& options) {
  const fs::path to = options.to;
  expect_input(is_exported_folder(options.from),
               concat(options.from, " is no exported folder: it has no config.json"));
  expect_input(list_checkpoints(to).empty(),
               concat(to.string(), " already has checkpoints; choose another folder"));
  const auto loaded = load_for_inference(options.from, Device::cpu, 1);
  StateDict state;
  for (const LogicalView& tensor : loaded.parameters->logical())
    state.tensors["model/" + tensor.name] = tensor.weight;
  const fs::path tokenizer = fs::path(options.from) / kSentencePieceName;
  if (!holds_foreign_tokenizer(options.from) && fs::exists(tokenizer))
    check_tokenizer(Tokenizer(tokenizer), loaded);
  copy_tokenizer(options.from, to);
  Checkpointer checkpointer(to / "checkpoints", {});
  nlohmann::json run = {
      {"config", to_json(loaded.config)}, {"commit", kCommit}, {"imported_from", options.from}};
  if (!loaded.tokenizer_hash.empty()) run["tokenizer"] = loaded.tokenizer_hash;
  const auto folder = checkpointer.save(0, state, run);
  log_info(concat("wrote ", folder.string(), ": ", loaded.parameters->parameter_count(),
                  " parameters; start from them with train --init-from ", to.string()));
}

}  // namespace

void add_import_command(CLI::App& app) {
  auto* command = app.add_subcommand("import", "Turn an exported folder into a run with one checkpoint");
  auto options = std::make_shared<Options>();
  command->add_option("--from", options->from, "Folder that export has made")->required();
  command->add_option("--to", options->to, "Run folder to make")->required();
  command->callback([options] { import_model(*options); });
}

}  // namespace transxssm
