// The rule for comparing low precision with fp64: a result may lose a stated multiple of what the same
// formula loses when every step stays in the input's dtype.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "support/catch.h"
#include "support/compare.h"

namespace transxssm {

// `actual` against `exact` (fp64). `in_dtype` is the plain formula with every step rounded to the low
// precision; `floor` covers the case where that happens to be exact, relative to the largest exact value.
inline void require_close(const std::string& what, const at::Tensor& actual, const at::Tensor& in_dtype,
                          const at::Tensor& exact, double factor = 2.0, double floor = 1e-6) {
  const double error = max_abs_diff(actual, exact);
  const double bar = factor * max_abs_diff(in_dtype, exact) + floor * max_abs(exact);
  INFO(what << ": error " << error << ", allowed " << bar);
  REQUIRE(error <= bar);
}

}  // namespace transxssm
