// Checkpoints of tensors on a GPU.
#include "checkpoint/checkpointer.h"
#include "checkpoint/reader.h"
#include "checkpoint_case.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("checkpointer on CUDA: tensors on the GPU, strided ones too, are saved with the same bytes",
          "[checkpoint][cuda]") {
  const TempFolder folder;
  const StateDict state = sample_state();
  StateDict on_gpu;
  on_gpu.values = state.values;
  for (const auto& [name, tensor] : state.tensors) on_gpu.tensors[name] = tensor.to(at::kCUDA);
  on_gpu.tensors["view"] =
      at::arange(1009, at::TensorOptions(at::kFloat).device(at::kCUDA)).slice(0, 7, 1009, 2);
  Checkpointer saver(folder.path(), {});
  StateDict wanted = state;
  wanted.tensors["view"] = at::arange(1009, at::kFloat).slice(0, 7, 1009, 2);
  require_same(CheckpointReader(saver.save(1, on_gpu, {})).load(), wanted);
}
