// A GPU that is too small: what was needed, what to change, and nothing but that.
#include "support/require_error.h"
#include "support/run_result.h"
#include "support/tiny_run.h"
#include "trainer/launch.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("out of memory on CUDA: a model that is larger than the GPU is refused before it is made",
          "[cuda]") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.train.device = Device::cuda;
  config.model.hidden_size = 1 << 20;
  config.model.intermediate_size = 1 << 22;
  require_error([&] { launch_training(config, {}); }, "optimizer moments of this model take 864.");
  REQUIRE(status_of(config.train.run_dir).at("exit_code") == 2);
}

TEST_CASE("out of memory on CUDA: a micro-batch that does not fit is refused with one that does", "[cuda]") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.data.validation.clear();
  config.train.device = Device::cuda;
  config.train.seq_len = 1024;
  config.train.global_batch_size = config.train.micro_batch_size = 1024;
  config.model.intermediate_size = 1 << 16;  // gate and up of a layer: 256 GiB
  require_error([&] { launch_training(config, {}); }, "the largest that fits is train.micro_batch_size ");
  REQUIRE(status_of(config.train.run_dir).at("exit_code") == 2);
}
