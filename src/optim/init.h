// Initial values. Each depends only on (seed, logical name, element index): not on packing, order, threads or
// device.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/parameter.h"
#include "optim/flat_parameters.h"

namespace transxssm {

// Elements [first, first + out.size()) of the tensor `name`, drawn as `init` says. `first` is a multiple
// of 4.
void initial_values(const Init& init, const std::string& name, uint64_t seed, int64_t first,
                    std::span<float> out);

// Gives every logical tensor its initial values.
void initialize(FlatParameters& parameters, uint64_t seed);

}  // namespace transxssm
