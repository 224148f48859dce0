// c10d's process groups: NCCL for tensors on a GPU, Gloo for tensors on a CPU. Only for files of this folder.
#pragma once

#include <chrono>
#include <string>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace transxssm {

struct GroupPlace {
  c10::intrusive_ptr<c10d::Store> store;
  int rank;
  int size;
  bool on_one_host;  // all ranks are: the loopback interface will do
  std::chrono::milliseconds timeout;
};

c10::intrusive_ptr<c10d::Backend> make_gloo_group(const GroupPlace& place);
c10::intrusive_ptr<c10d::Backend> make_nccl_group(const GroupPlace& place, at::Device device);

}  // namespace transxssm
