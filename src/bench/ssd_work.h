// The SSD operators as work to be timed: random bf16 inputs, widths 128 × 128.
#pragma once

#include <cstdint>
#include <string>

#include "bench/device_timer.h"
#include "bench/pass.h"

namespace transxssm::bench {

inline constexpr int64_t kWidth = 128;  // of heads and of the state

struct ScanShape {
  int64_t batch = 0, tokens = 0, heads = 0;
  int64_t groups = 0;      // that share B and C; divides the heads
  bool documents = false;  // rows of several documents, of log-normal length; else one a row
  bool skip = false;       // with D
  bool rope = true;
};

Workload ssd_work(const ScanShape& shape, Pass pass);
Workload ssd_step_work(int64_t batch, int64_t heads);

// Documents in the rows of ssd_work().
int64_t document_count(const ScanShape& shape);

// What ops::ssd and ops::ssd_step take for these inputs, and why.
std::string ssd_path();
std::string ssd_step_path();

// What has to cross the memory bus at least, in bytes. In units of one bf16 tensor [tokens, heads, 128], of
// which B, C and their gradients take groups / heads each: forward reads x, B, C and writes y; forward for
// training also writes a state per 128 tokens; backward reads x, B, C, dy and the states and writes dx, dB,
// dC. Time steps are less than 1 % of that.
double ssd_bytes(const ScanShape& shape, Pass pass);
double ssd_step_bytes(int64_t batch, int64_t heads);  // the f32 state, read and written

// Multiplications and additions of the chunked scan with chunks of 64 tokens.
double ssd_flops(const ScanShape& shape, Pass pass);

}  // namespace transxssm::bench
