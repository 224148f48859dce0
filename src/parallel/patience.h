// A phase in which ranks may let each other wait for longer than usual: captured graphs and cuDNN's plans are
// made in the first step, and a file system may be slow in a save.
#pragma once

#include <chrono>

#include "parallel/mesh.h"

namespace transxssm {

class Patience {
 public:
  static constexpr int kTimes = 4;  // the usual limit

  // All ranks begin and end it at the same place. `usual` is the limit afterwards.
  Patience(const Mesh& mesh, std::chrono::seconds usual) : mesh_(mesh), usual_(usual) {
    mesh_.set_timeout(kTimes * usual_);
  }
  ~Patience() { mesh_.set_timeout(usual_); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

 private:
  const Mesh& mesh_;
  std::chrono::seconds usual_;
};

}  // namespace transxssm
