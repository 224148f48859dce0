// Recording and replaying with LibTorch's CUDA graphs.
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
};

struct RepeatedWork::Graph {
  at::cuda::CUDAGraph graph;
};

GraphPool::GraphPool() : impl_(std::make_unique<Impl>()) {}
GraphPool::~GraphPool() = default;

RepeatedWork::RepeatedWork(GraphPool* pool) : pool_(pool) {}
RepeatedWork::~RepeatedWork() = default;
RepeatedWork::RepeatedWork(RepeatedWork&&) noexcept = default;

namespace {

// Records without running. Other threads may go on using the GPU meanwhile.
void record(at::cuda::CUDAGraph& graph, const c10::cuda::CUDAStream& stream, at::MempoolId_t memory,
            const std::function<void()>& work) {
  // The graph's tensors get memory of their own: what plain runs left in the cache would lie idle beside it.
  c10::cuda::device_synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();
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
  if (!pool_ || !ran_) {
    ran_ = true;
    return work();
  }
  if (!graph_) {
    auto graph = std::make_unique<Graph>();
    record(graph->graph, pool_->impl_->stream, pool_->impl_->memory, work);
    graph_ = std::move(graph);
  }
  graph_->graph.replay();
}

}  // namespace transxssm
