#include "parallel/local_store.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace transxssm {
namespace {

constexpr const char* kLoopback = "127.0.0.1";

c10d::TCPStoreOptions on_free_port() {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  return options;
}

}  // namespace

struct LocalStore::Impl {
  c10d::TCPStore store{kLoopback, on_free_port()};
};

LocalStore::LocalStore() : impl_(std::make_unique<Impl>()) {}
LocalStore::~LocalStore() = default;

uint16_t LocalStore::port() const { return impl_->store.getPort(); }

RankEnvironment LocalStore::environment(int rank, int size) const {
  RankEnvironment made;
  made.rank = rank;
  made.size = size;
  made.local_rank = rank;
  made.address = kLoopback;
  made.port = port();
  return made;
}

}  // namespace transxssm
