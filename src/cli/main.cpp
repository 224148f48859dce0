// transxssm: one verb per file of this folder. Exit codes: 0 done, 2 bad input, 1 failure, train's own when
// stopped early.
#include <csignal>
#include <iostream>
#include <limits>

#include <CLI/CLI.hpp>
#include <malloc.h>

#include "cli/bench.h"
#include "cli/checkpoint.h"
#include "cli/command_line.h"
#include "cli/config.h"
#include "cli/data.h"
#include "cli/eval.h"
#include "cli/export.h"
#include "cli/generate.h"
#include "cli/import.h"
#include "cli/plan.h"
#include "cli/tokenizer.h"
#include "cli/train.h"
#include "cli/version.h"
#include "core/check.h"
#include "core/logging.h"
#include "trainer/errors.h"

namespace {

constexpr int kFailure = 1;
constexpr int kBadInput = 2;

// A training step frees what the next one allocates again. glibc would give large blocks back to the kernel
// each time, which then has to clear every page anew.
void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

int run(int argc, char** argv) {
  using namespace transxssm;
  CLI::App app{"Pretrains hybrid Transformer-state-space language models."};
  int exit_code = 0;
  app.set_version_flag("--version", version_text, "Print the versions of the program and of its libraries");
  app.require_subcommand(1);
  add_train_command(app, exit_code);
  add_plan_command(app);
  add_generate_command(app);
  add_eval_command(app);
  add_export_command(app);
  add_import_command(app);
  add_tokenizer_command(app);
  add_data_command(app);
  add_checkpoint_command(app);
  add_config_command(app);
  add_bench_command(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw InputError(explain(app, error));
    exit_code = app.exit(error);  // --help and --version
  }
  std::cout.flush();
  expect_input(std::cout.good(), "standard output can't be written; is its disk full?");
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file as large as `ulimit -f` allows is an error of write(), not the end
  keep_freed_memory();
  try {
    return run(argc, argv);
  } catch (const transxssm::InputError& error) {
    transxssm::log_error(error.what());
    return kBadInput;
  } catch (const std::exception& error) {
    if (const auto shortage = transxssm::out_of_memory(error)) {
      transxssm::log_error("out of memory: " + *shortage);
      return kBadInput;
    }
    transxssm::log_error(transxssm::message_of(error));
  }
  return kFailure;
}
