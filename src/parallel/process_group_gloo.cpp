// Gloo: collectives of tensors in the CPU's memory, over TCP.
#include <cstdlib>

#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "parallel/process_group.h"

namespace transxssm {
namespace {

std::shared_ptr<gloo::transport::Device> network(bool on_one_host) {
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME"))  // as in PyTorch
    return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  if (on_one_host) return c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_gloo_group(const GroupPlace& place) {
  auto options = c10d::ProcessGroupGloo::Options::create(kNoGroupTimeout);
  options->devices.push_back(network(place.on_one_host));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(place.store, place.rank, place.size, options);
}

}  // namespace transxssm
