#include "bench/device_timer.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/cuda/Sleep.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include "core/check.h"
#include "core/logging.h"

namespace transxssm::bench {
namespace {

using Clock = std::chrono::steady_clock;
using at::cuda::CUDAEvent;
using at::cuda::CUDAGraph;
using Graphs = std::vector<std::unique_ptr<CUDAGraph>>;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Keeps the GPU busy, so that what is queued meanwhile runs without waiting for the host.
void hold_device(double ms) {
  constexpr double kCyclesPerMs = 2e6;  // of the fastest GPUs; a slower clock holds longer
  constexpr double kLongestMs = 2000;
  at::cuda::sleep(static_cast<int64_t>(std::min(ms, kLongestMs) * kCyclesPerMs));
}

struct Measured {
  std::vector<double> run_ms;  // sorted
  double host_ms = 0;          // per run

  double median() const {
    const size_t half = run_ms.size() / 2;
    return run_ms.size() % 2 ? run_ms[half] : (run_ms[half - 1] + run_ms[half]) / 2;
  }
};

// `host_ms`: about what the host needs to queue a run.
Measured measure(const Workload& work, int repeats, double host_ms) {
  struct Span {
    CUDAEvent begin{cudaEventDefault}, end{cudaEventDefault};
  };
  std::vector<Span> spans(static_cast<size_t>(repeats));
  hold_device(1 + 1.5 * host_ms * repeats);
  const auto start = Clock::now();
  for (size_t i = 0; i < spans.size(); ++i) {
    spans[i].begin.record();
    work.queue(i % work.input_sets);
    spans[i].end.record();
  }
  Measured out;
  out.host_ms = ms_since(start) / repeats;
  spans.back().end.synchronize();
  for (const Span& span : spans) out.run_ms.push_back(span.begin.elapsed_time(span.end));
  std::sort(out.run_ms.begin(), out.run_ms.end());
  return out;
}

// Twice through all sets; what the host needs per run of the second pass.
double warm_up(const Workload& work) {
  const auto pass = [&] {
    const auto start = Clock::now();
    for (size_t set = 0; set < work.input_sets; ++set) work.queue(set);
    return ms_since(start) / static_cast<double>(work.input_sets);
  };
  pass();
  c10::cuda::device_synchronize();
  const double host_ms = pass();
  c10::cuda::device_synchronize();
  return host_ms;
}

// One graph per set; they replay one after the other, so they share their memory.
Graphs capture(const Workload& work) {
  const at::MempoolId_t pool = at::cuda::graph_pool_handle();
  Graphs graphs;
  for (size_t set = 0; set < work.input_sets; ++set) {
    graphs.push_back(std::make_unique<CUDAGraph>());
    graphs.back()->capture_begin(pool);
    try {
      work.queue(set);
    } catch (...) {
      try {  // the stream must leave the capture; that the capture is void is known
        graphs.back()->capture_end();
      } catch (const std::exception&) {
      }
      throw;
    }
    graphs.back()->capture_end();
  }
  return graphs;
}

std::optional<double> graph_ms(const Workload& work, int repeats) {
  Graphs graphs;
  const auto impossible = [](const char* reason) {
    log_warning(concat("no CUDA graph of this operation: ", reason));
    return std::nullopt;
  };
  try {
    graphs = capture(work);
  } catch (const c10::Error& error) {
    return impossible(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return impossible(error.what());
  }
  const Workload replay{work.input_sets, [&](size_t set) { graphs[set]->replay(); }};
  const double host_ms = warm_up(replay);
  return measure(replay, repeats, host_ms).median();
}

}  // namespace

std::string find_gpu() {
  expect_input(c10::cuda::device_count() > 0,
               "bench times an NVIDIA GPU, but this machine has none that is usable");
  return at::cuda::getCurrentDeviceProperties()->name;
}

Timing time_on_device(const Workload& work, int repeats) {
  expect(work.input_sets > 0 && repeats > 0, "time_on_device: nothing to run");
  c10::cuda::device_synchronize();
  const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());  // capture needs one of its own
  const Measured measured = measure(work, repeats, warm_up(work));
  return {measured.median(), measured.run_ms.front(), measured.run_ms.back(), measured.host_ms,
          graph_ms(work, repeats)};
}

double copy_bytes_per_second(int repeats) {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const auto options = at::TensorOptions(at::kCUDA).dtype(at::kByte);
  const at::Tensor from = at::zeros({kBytes}, options), to = at::empty({kBytes}, options);
  const Workload copy{1, [&](size_t) { to.copy_(from); }};
  c10::cuda::device_synchronize();
  return 2.0 * kBytes / (measure(copy, repeats, warm_up(copy)).median() * 1e-3);
}

}  // namespace transxssm::bench
