// Tells the host how far a stream has got, also when its work is replayed from a CUDA graph.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace transxssm::kernels {

struct ProgressParams {
  uint64_t* counter = nullptr;    // on the device: how often this mark was passed
  uint64_t* seen = nullptr;       // in pinned memory of the host: becomes the new count
  uint64_t* seen_site = nullptr;  // in pinned memory: becomes `site`; null: left alone
  uint64_t site = 0;
};

struct TimeParams {
  int64_t* since = nullptr;  // on the device, nanoseconds of the GPU's clock
  int64_t* total = nullptr;  // on the device; null: a time begins
};

// Notes the time in `since`, or adds what has passed since then to `total`. One stream at a time.
void mark_time(const TimeParams& params, CUstream_st* stream);

// Counts one up and shows it to the host. One stream at a time.
void mark_progress(const ProgressParams& params, CUstream_st* stream);

}  // namespace transxssm::kernels
