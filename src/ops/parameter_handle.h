// How an autograd Function carries parameters: the handle goes into the context, the weight only into the
// graph.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include "core/parameter.h"

namespace transxssm::ops {

// To pass as an input to Function::apply, so that backward runs for the parameter's sake alone. None (nothing
// is recorded) where there is no gradient to form: a null parameter, or a model built for inference.
inline std::optional<at::Tensor> graph_leaf(const ParameterPtr& parameter) {
  if (!parameter || !parameter->grad.defined()) return std::nullopt;
  return parameter->weight;
}

// For ctx->saved_data; a null parameter is kept as none.
inline c10::IValue to_handle(const ParameterPtr& parameter) {
  return parameter ? c10::IValue::make_capsule(parameter) : c10::IValue();
}

inline ParameterPtr from_handle(const c10::IValue& handle) {
  return handle.isNone() ? ParameterPtr() : c10::static_intrusive_pointer_cast<Parameter>(handle.toCapsule());
}

}  // namespace transxssm::ops
