// The console line.
#include "trainer/progress.h"

#include "support/catch.h"

using namespace transxssm;

TEST_CASE("progress: durations are short and unambiguous") {
  REQUIRE(format_duration(3.4) == "3 s");
  REQUIRE(format_duration(125) == "2 min");
  REQUIRE(format_duration(3720) == "1 h 02 min");
  REQUIRE(format_duration(3 * 86400 + 4 * 3600) == "3 d 04 h");
}

TEST_CASE("progress: the line has what is known and leaves out what is not") {
  TrainMetrics row;
  row.step = 120;
  row.loss = 3.21;
  row.lr = 2e-3;
  row.grad_norm = 0.91;
  row.tokens_per_second = 12345;
  row.step_time_seconds = 1;
  REQUIRE(progress_line(row, 2000) ==
          "step 120/2000 (6%) | loss 3.2100 | lr 2.00e-03 | norm 0.91 | 12.3 k tok/s | ETA 31 min");
  row.mfu = 0.412;
  row.memory_peak_gib = 33.14;
  REQUIRE(progress_line(row, 2000).find("| MFU 41.2% | 33.1 GiB | ETA") != std::string::npos);
}
