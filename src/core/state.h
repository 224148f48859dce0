// What survives a restart: named tensors plus small JSON values (cursors, counters, seeds).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <ATen/core/Tensor.h>

namespace transxssm {

// Elements [first, first + count) of a tensor, numbered as it is laid out contiguously.
struct ElementRange {
  int64_t first = 0;
  int64_t count = 0;
};

// Of a tensor that isn't here whole.
struct TensorPart {
  std::vector<int64_t> shape;  // of all of it
  int64_t first = 0;           // element with which the part begins
};

struct StateDict {
  std::map<std::string, at::Tensor> tensors;  // by full logical name; views are fine, copied while saving
  std::map<std::string, TensorPart> parts;    // for those of which `tensors` has a part only, flat
  nlohmann::json values = nlohmann::json::object();
};

// Model weights, optimizer, data cursors. After load_state(save_state()) the object goes on bit for bit.
struct Stateful {
  virtual ~Stateful() = default;
  virtual void save_state(StateDict& out) const = 0;
  virtual void load_state(const StateDict& in) = 0;
};

}  // namespace transxssm
