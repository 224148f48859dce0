// Attention by cuDNN: plans kept per call, and the calls that a pass is made of.
#include <algorithm>
#include <exception>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "core/check.h"
#include "csrc_cuda/attention/document_classes.h"
#include "csrc_cuda/attention/graph_cudnn.h"

namespace transxssm::kernels {
namespace {

int current_device() {
  int device = 0;
  expect(cudaGetDevice(&device) == cudaSuccess, "attention: no current CUDA device");
  return device;
}

cudnnHandle_t new_handle() {
  cudnnHandle_t handle = nullptr;
  const cudnnStatus_t status = cudnnCreate(&handle);
  expect(status == CUDNN_STATUS_SUCCESS,
         concat("attention: cuDNN does not start: ", cudnnGetErrorString(status)));
  return handle;
}

// Plans and handles of the process. Never destroyed: at exit CUDA may be gone before them.
class Cudnn {
 public:
  static Cudnn& instance() {
    static auto& cudnn = *new Cudnn;
    return cudnn;
  }

  int64_t workspace_bytes(const AttentionCall& call) { return plan(current_device(), call).workspace_bytes; }

  void run(const AttentionCall& call, AttentionPointers pointers, void* workspace, cudaStream_t stream) {
    const int device = current_device();
    AttentionPlan& made = plan(device, call);
    const std::lock_guard lock(handles_mutex_);
    const cudnnHandle_t on = handle(device);
    expect(cudnnSetStream(on, stream) == CUDNN_STATUS_SUCCESS, "attention: cuDNN refuses the stream");
    check_cudnn(made.graph.execute(on, pointers, workspace), "launch");
  }

  // Makes the plans that are missing, all at once; who needs one meanwhile waits for it.
  void prepare(const std::vector<AttentionCall>& calls) {
    const int device = current_device();
    std::vector<std::thread> threads;
    for (const AttentionCall& call : calls)
      if (Entry* entry = claim(device, call))
        threads.emplace_back([device, call, entry] {
          make(call, *entry, [device] {
            expect(cudaSetDevice(device) == cudaSuccess, "attention: the CUDA device is gone");
            return new_handle();
          });
        });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  struct Entry {
    AttentionPlan plan;
    std::promise<void> promise;
    std::shared_future<void> made = promise.get_future().share();
  };

  // Null where somebody else makes it or has.
  Entry* claim(int device, const AttentionCall& call) {
    const std::lock_guard lock(plans_mutex_);
    auto& entry = plans_[{device, call}];
    if (entry) return nullptr;
    entry = std::make_unique<Entry>();
    return entry.get();
  }

  template <class Handle>
  static void make(const AttentionCall& call, Entry& entry, Handle&& handle) {
    try {
      build_attention_plan(call, handle(), entry.plan);
      entry.promise.set_value();
    } catch (...) {
      entry.promise.set_exception(std::current_exception());
    }
  }

  AttentionPlan& plan(int device, const AttentionCall& call) {
    if (Entry* entry = claim(device, call))
      make(call, *entry, [&] {
        const std::lock_guard lock(handles_mutex_);
        return handle(device);
      });
    std::unique_lock lock(plans_mutex_);
    Entry& entry = *plans_.at({device, call});
    lock.unlock();
    entry.made.get();
    return entry.plan;
  }

  cudnnHandle_t handle(int device) {
    cudnnHandle_t& handle = handles_[device];
    if (!handle) handle = new_handle();
    return handle;
  }

  std::mutex plans_mutex_, handles_mutex_;
  std::map<int, cudnnHandle_t> handles_;
  std::map<std::pair<int, AttentionCall>, std::unique_ptr<Entry>> plans_;
};

// A call and the part of the tensors it takes.
struct Part {
  AttentionCall call;
  int64_t first_token;  // of the batch; 0 with tables, which find their documents anywhere
  int64_t first_word;   // of its table
  int first_key_head;
};

template <class Visit>
void for_each_part(const AttentionShape& s, AttentionPass pass, Visit&& visit) {
  const bool backward = pass == AttentionPass::backward, rows = attention_takes_rows(s);
  const int64_t rows_of_call = rows && backward ? rows_at_once(s) : s.batch;
  const DocumentClasses classes = document_classes(s, pass);
  for (int i = 0; i < classes.count; ++i) {
    const DocumentClass& c = classes.of[i];
    const int at_once = backward ? key_heads_at_once(s, c) : s.kv_heads;
    const AttentionCall call{.pass = pass,
                             .rows = rows,
                             .deterministic = attention_keeps_scores(s),
                             .capacity = rows ? rows_of_call : c.capacity,
                             .longest = std::max<int64_t>(c.longest, 2),  // cuDNN refuses 1
                             .total_tokens = s.batch * s.tokens,
                             .heads = s.heads / s.kv_heads * at_once,
                             .kv_heads = at_once,
                             .width = s.width,
                             .packed_row = s.packed_columns,
                             .out_row = int64_t{s.heads} * s.width,
                             .key_gradient_row = attention_key_gradient_row(s),
                             .log_sum_exp_row = s.heads};
    for (int64_t row = 0; row < s.batch; row += rows_of_call)
      for (int head = 0; head < s.kv_heads; head += at_once)
        visit(Part{call, row * s.tokens, c.first_word, head});
  }
}

const void* bf16_at(const void* data, int64_t values) {
  return static_cast<const std::byte*>(data) + 2 * values;
}
void* bf16_at(void* data, int64_t values) { return static_cast<std::byte*>(data) + 2 * values; }

// cuDNN takes all pointers as those of outputs.
void* mutable_pointer(const void* p) { return const_cast<void*>(p); }

// What both passes read: the packed heads of the part, and its documents unless it takes whole rows.
AttentionPointers input_pointers(const AttentionShape& s, const Part& part, const void* packed,
                                 const int32_t* tables) {
  const int64_t row = part.first_token * s.packed_columns;
  const int64_t query = row + int64_t{part.first_key_head} * (s.heads / s.kv_heads) * s.width;
  const int64_t key = row + int64_t{part.first_key_head} * s.width;
  AttentionPointers pointers = {
      {kQuery, mutable_pointer(bf16_at(packed, query))},
      {kKey, mutable_pointer(bf16_at(packed, int64_t{s.heads} * s.width + key))},
      {kValue, mutable_pointer(bf16_at(packed, int64_t{s.heads + s.kv_heads} * s.width + key))}};
  if (part.call.rows) return pointers;
  const int32_t* table = tables + part.first_word;
  const int64_t words = part.call.capacity + 1;
  pointers[kPackedOffsets] = mutable_pointer(table);
  pointers[kOutOffsets] = mutable_pointer(table + words);
  if (part.call.pass == AttentionPass::backward && part.call.key_gradient_row != part.call.packed_row)
    pointers[kKeyGradientOffsets] = mutable_pointer(table + 2 * words);
  if (part.call.pass != AttentionPass::inference) pointers[kHeadOffsets] = mutable_pointer(table + 3 * words);
  pointers[kLengths] = mutable_pointer(table + 4 * words);
  return pointers;
}

}  // namespace

bool attention_has_kernels() { return true; }

int64_t attention_workspace_bytes(const AttentionShape& shape, AttentionPass pass) {
  int64_t bytes = 0;
  for_each_part(shape, pass, [&](const Part& part) {
    bytes = std::max(bytes, Cudnn::instance().workspace_bytes(part.call));
  });
  return bytes;
}

void prepare_attention(const AttentionShape& shape) {
  std::vector<AttentionCall> calls;
  for (const AttentionPass pass : {AttentionPass::forward, AttentionPass::backward})
    for_each_part(shape, pass, [&](const Part& part) { calls.push_back(part.call); });
  Cudnn::instance().prepare(calls);
}

void attention_forward(const AttentionForwardParams& p, CUstream_st* stream) {
  const AttentionShape& s = p.shape;
  const auto pass = p.log_sum_exp ? AttentionPass::forward : AttentionPass::inference;
  for_each_part(s, pass, [&](const Part& part) {
    AttentionPointers pointers = input_pointers(s, part, p.packed, p.tables);
    pointers[kOut] = p.out;
    if (p.log_sum_exp) pointers[kLogSumExp] = p.log_sum_exp;
    Cudnn::instance().run(part.call, std::move(pointers), p.workspace, stream);
  });
}

void attention_backward(const AttentionBackwardParams& p, CUstream_st* stream) {
  const AttentionShape& s = p.shape;
  for_each_part(s, AttentionPass::backward, [&](const Part& part) {
    const int64_t head = int64_t{part.first_key_head} * (s.heads / s.kv_heads);
    const int64_t query = head * s.width;
    const int64_t out = part.first_token * s.heads * s.width + query;
    const int64_t key =
        part.first_token * attention_key_gradient_row(s) + int64_t{part.first_key_head} * s.width;
    AttentionPointers pointers = input_pointers(s, part, p.packed, p.tables);
    pointers[kOut] = mutable_pointer(bf16_at(p.out, out));
    pointers[kDOut] = mutable_pointer(bf16_at(p.d_out, out));
    // Of one kind or the other: all heads of some rows, or some heads of all documents.
    pointers[kLogSumExp] = const_cast<float*>(p.log_sum_exp + part.first_token * s.heads + head);
    pointers[kDQuery] = bf16_at(p.d_query, part.first_token * s.packed_columns + query);
    pointers[kDKey] = bf16_at(p.d_key, key);
    pointers[kDValue] = bf16_at(p.d_value, key);
    Cudnn::instance().run(part.call, std::move(pointers), p.workspace, stream);
  });
}

}  // namespace transxssm::kernels
