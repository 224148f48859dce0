// Work that a GPU is given again and again: captured into a CUDA graph, so that the host queues a step in
// microseconds.
#pragma once

#include <functional>
#include <memory>

namespace transxssm {

// What captured graphs share: a stream to record on, and the memory in which their tensors live. One such
// pool serves work that runs one after another and hands each other nothing in it.
class GraphPool {
 public:
  GraphPool();
  ~GraphPool();
  GraphPool(const GraphPool&) = delete;
  GraphPool& operator=(const GraphPool&) = delete;

 private:
  friend class RepeatedWork;
  struct Impl;
  std::unique_ptr<Impl> impl_;  // null where the program was built without CUDA
};

// The first run() calls `work`, which makes what lives for good (cuBLAS's handles, cuDNN's plans). The second
// records it and replays the record, as do all later ones. So `work` must be the same every time: same
// shapes, same addresses; it reads what changes from device memory and does not wait for the device. Replays
// give the bits of the plain run. Plain runs take their memory from the pool as well, so that recorded and
// plain work need room for the larger of them, not for both: tensors that the pool's first run leaves behind
// keep their place; later runs leave none. `pool` outlives this object; without one, and in builds without
// CUDA, every run just calls `work`.
class RepeatedWork {
 public:
  enum class Runs { recorded, plain };  // plain: every run calls `work`
  explicit RepeatedWork(GraphPool* pool, Runs runs = Runs::recorded);
  ~RepeatedWork();
  RepeatedWork(RepeatedWork&&) noexcept;

  void run(const std::function<void()>& work);

 private:
  struct Graph;
  GraphPool* pool_;
  Runs runs_;
  bool ran_ = false;
  std::unique_ptr<Graph> graph_;
};

}  // namespace transxssm
