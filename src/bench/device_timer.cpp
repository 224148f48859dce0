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

struct RunTimes {
  std::vector<double> ms;  // sorted

  double median() const {
    const size_t half = ms.size() / 2;
    return ms.size() % 2 ? ms[half] : (ms[half - 1] + ms[half]) / 2;
  }
};

// Of each run, in order. `host_ms`: about what the host needs to queue one.
std::vector<double> run_times(const Workload& work, int repeats, double host_ms) {
  struct Span {
    CUDAEvent begin{cudaEventDefault}, end{cudaEventDefault};
  };
  std::vector<Span> spans(static_cast<size_t>(repeats));
  hold_device(1 + 1.5 * host_ms * repeats);
  for (size_t i = 0; i < spans.size(); ++i) {
    spans[i].begin.record();
    work.queue(i % work.input_sets);
    spans[i].end.record();
  }
  spans.back().end.synchronize();
  std::vector<double> times;
  for (const Span& span : spans) times.push_back(span.begin.elapsed_time(span.end));
  return times;
}

RunTimes sorted(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  return {std::move(ms)};
}

// times[i] belongs to set i mod `sets`.
std::vector<double> medians_of_turns(const std::vector<double>& times, size_t sets) {
  std::vector<std::vector<double>> by_set(sets);
  for (size_t i = 0; i < times.size(); ++i) by_set[i % sets].push_back(times[i]);
  std::vector<double> medians;
  for (auto& of_set : by_set) medians.push_back(sorted(std::move(of_set)).median());
  return medians;
}

RunTimes measure(const Workload& work, int repeats, double host_ms) {
  return sorted(run_times(work, repeats, host_ms));
}

// Twice through all sets. What the host needs to queue a run the second time: few enough runs that it does
// not wait for a place in the queue.
double warm_up(const Workload& work) {
  const auto pass = [&](size_t runs) {
    const auto start = Clock::now();
    for (size_t i = 0; i < runs; ++i) work.queue(i % work.input_sets);
    const double host_ms = ms_since(start) / static_cast<double>(runs);
    c10::cuda::device_synchronize();
    return host_ms;
  };
  pass(work.input_sets);
  return pass(std::max<size_t>(work.input_sets, 6));
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
  return measure(replay, repeats, warm_up(replay)).median();
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
  const double host_ms = warm_up(work);
  const RunTimes times = measure(work, repeats, host_ms);
  return {times.median(), times.ms.front(), times.ms.back(), host_ms, graph_ms(work, repeats)};
}

std::vector<double> medians_by_set(const Workload& work, int repeats) {
  expect(work.input_sets > 0 && repeats > 0, "medians_by_set: nothing to run");
  c10::cuda::device_synchronize();
  const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
  const double host_ms = warm_up(work);
  const auto times = run_times(work, repeats * static_cast<int>(work.input_sets), host_ms);
  return medians_of_turns(times, work.input_sets);
}

std::vector<double> sustained_ms_by_set(const Workload& work, double block_ms, int rounds) {
  const auto alone = medians_by_set(work, 3);
  const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
  std::vector<double> times;
  for (size_t block = 0; block < static_cast<size_t>(rounds) * work.input_sets; ++block) {
    const size_t set = block % work.input_sets;
    const int half = std::max(1, static_cast<int>(block_ms / alone[set] / 2));
    const auto queue = [&] {
      for (int i = 0; i < half; ++i) work.queue(set);
    };
    CUDAEvent begin(cudaEventDefault), end(cudaEventDefault);
    queue();
    begin.record();
    queue();
    end.record();
    end.synchronize();
    times.push_back(begin.elapsed_time(end) / half);
  }
  return medians_of_turns(times, work.input_sets);
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
