// What survives a restart: named tensors plus small JSON values (cursors, counters, seeds).
#pragma once

#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include <ATen/core/Tensor.h>

namespace transxssm {

struct StateDict {
  std::map<std::string, at::Tensor> tensors;  // by full logical name; views are fine, copied while saving
  nlohmann::json values = nlohmann::json::object();
};

// Model weights, optimizer, data cursors. After load_state(save_state()) the object goes on bit for bit.
struct Stateful {
  virtual ~Stateful() = default;
  virtual void save_state(StateDict& out) const = 0;
  virtual void load_state(const StateDict& in) = 0;
};

}  // namespace transxssm
