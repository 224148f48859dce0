// NCCL: collectives of tensors in a GPU's memory. A build without CUDA has none.
#include <cstdlib>

#include "core/check.h"
#include "parallel/process_group.h"

#ifdef TRANSXSSM_HAVE_CUDA
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace transxssm {

#ifdef TRANSXSSM_HAVE_CUDA
c10::intrusive_ptr<c10d::Backend> make_nccl_group(const GroupPlace& place, at::Device device) {
  // c10d's watchdog would end the process by an uncaught exception, and sees nothing of replayed graphs.
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
  setenv("TORCH_NCCL_ENABLE_MONITORING", "0", /*overwrite=*/0);
  // A collective waits for every other rank: let it take its few multiprocessors as soon as it can go on.
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = kNoGroupTimeout;
  auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(place.store, place.rank, place.size, options);
  // Connected now and not by the first collective, which may be one that is recorded into a graph.
  group->setBoundDeviceId(device);
  group->eagerConnectSingleDevice(device);
  return group;
}
#else
c10::intrusive_ptr<c10d::Backend> make_nccl_group(const GroupPlace&, at::Device) {
  throw InputError("this program was built without CUDA: it can't train on GPUs");
}
#endif

}  // namespace transxssm
