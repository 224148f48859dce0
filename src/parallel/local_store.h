// The meeting point of ranks that one process starts on its own host.
#pragma once

#include <cstdint>
#include <memory>

#include "parallel/rank_environment.h"

namespace transxssm {

// Serves the store on a free port of the loopback interface for as long as it lives. The port is taken by
// being bound, so no other process can get it in between.
class LocalStore {
 public:
  LocalStore();
  ~LocalStore();
  LocalStore(const LocalStore&) = delete;
  LocalStore& operator=(const LocalStore&) = delete;

  uint16_t port() const;
  // What a rank of this host needs to meet the others here.
  RankEnvironment environment(int rank, int size) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace transxssm
