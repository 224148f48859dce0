// Recording and replaying with LibTorch's CUDA graphs.
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include "trainer/repeated_work.h"

namespace transxssm {

struct GraphPool::Impl {
  // Always the same stream: cuBLAS keeps a workspace for each that it has seen.
  c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  at::MempoolId_t memory = at::cuda::graph_pool_handle();

  Impl() { c10::cuda::CUDACachingAllocator::createOrIncrefPool(stream.device_index(), memory); }
  ~Impl() { c10::cuda::CUDACachingAllocator::releasePool(stream.device_index(), memory); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

struct RepeatedWork::Graph {
  at::cuda::CUDAGraph graph;
};

GraphPool::GraphPool() : impl_(std::make_unique<Impl>()) {}
GraphPool::~GraphPool() = default;

RepeatedWork::RepeatedWork(GraphPool* pool, Runs runs) : pool_(pool), runs_(runs) {}
RepeatedWork::~RepeatedWork() = default;
RepeatedWork::RepeatedWork(RepeatedWork&&) noexcept = default;

namespace {

// While it lives, what is allocated on `stream` lies in the pool `memory`.
class InPool {
 public:
  InPool(const c10::cuda::CUDAStream& stream, at::MempoolId_t memory)
      : device_(stream.device_index()), memory_(memory) {
    c10::cuda::CUDACachingAllocator::beginAllocateToPool(
        device_, memory_, [own = stream.stream()](cudaStream_t other) { return other == own; });
  }
  ~InPool() {
    c10::cuda::CUDACachingAllocator::endAllocateToPool(device_, memory_);
    c10::cuda::CUDACachingAllocator::releasePool(device_, memory_);  // beginning counted as a use
  }
  InPool(const InPool&) = delete;
  InPool& operator=(const InPool&) = delete;

 private:
  c10::DeviceIndex device_;
  at::MempoolId_t memory_;
};

void order(const c10::cuda::CUDAStream& before, const c10::cuda::CUDAStream& after) {
  at::cuda::CUDAEvent event;
  event.record(before);
  event.block(after);
}

// On the pool's stream, since memory there belongs to a stream, in the place in the current one's order.
void run_plainly(const c10::cuda::CUDAStream& stream, at::MempoolId_t memory,
                 const std::function<void()>& work) {
  const auto current = c10::cuda::getCurrentCUDAStream();
  order(current, stream);
  {
    const InPool in_pool(stream, memory);
    const c10::cuda::CUDAStreamGuard on_stream(stream);
    work();
  }
  order(stream, current);
}

// Records without running. Other threads may go on using the GPU meanwhile.
void record(at::cuda::CUDAGraph& graph, const c10::cuda::CUDAStream& stream, at::MempoolId_t memory,
            const std::function<void()>& work) {
  c10::cuda::device_synchronize();
  const c10::cuda::CUDAStreamGuard on_stream(stream);
  graph.capture_begin(memory, cudaStreamCaptureModeThreadLocal);
  try {
    work();
  } catch (...) {
    try {  // the stream must leave the capture; that the record is void is known
      graph.capture_end();
    } catch (const std::exception&) {
    }
    throw;
  }
  graph.capture_end();
}

}  // namespace

void RepeatedWork::run(const std::function<void()>& work) {
  if (!pool_) return work();
  if (runs_ == Runs::plain || !ran_) {
    ran_ = true;
    return run_plainly(pool_->impl_->stream, pool_->impl_->memory, work);
  }
  if (!graph_) {
    auto graph = std::make_unique<Graph>();
    record(graph->graph, pool_->impl_->stream, pool_->impl_->memory, work);
    graph_ = std::move(graph);
  }
  graph_->graph.replay();
}

}  // namespace transxssm
