// c10d's process groups: NCCL for tensors on a GPU, Gloo for tensors on a CPU. Only for files of this folder.
//
// Their own limits of time are out of reach: the monitor ends a run, with a message that names the rank.
#pragma once

#include <chrono>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace transxssm {

constexpr std::chrono::hours kNoGroupTimeout{24 * 365};

struct GroupPlace {
  c10::intrusive_ptr<c10d::Store> store;
  int rank;
  int size;
  bool on_one_host;  // all ranks are: the loopback interface will do
};

c10::intrusive_ptr<c10d::Backend> make_gloo_group(const GroupPlace& place);
c10::intrusive_ptr<c10d::Backend> make_nccl_group(const GroupPlace& place, at::Device device);

}  // namespace transxssm
