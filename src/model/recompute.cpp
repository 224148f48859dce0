#include "model/recompute.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace transxssm {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct BlockCall : torch::CustomClassHolder {
  BlockCall(const Block* called_block, ParameterPtr scale, ops::Documents call_documents)
      : block(called_block), r(std::move(scale)), documents(std::move(call_documents)) {}
  const Block* block;
  ParameterPtr r;  // of what comes in
  ops::Documents documents;
};
using BlockCallPtr = c10::intrusive_ptr<BlockCall>;

class RecomputedBlock : public torch::autograd::Function<RecomputedBlock> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                               const std::optional<at::Tensor>& branch, const BlockCallPtr& call) {
    const ops::Residual in{{x, call->r}, branch.value_or(at::Tensor())};
    ctx->save_for_backward({x, in.branch});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    const auto out = call->block->forward(in, call->documents);  // gradients are off inside a Function
    return {out.stream.x, out.branch};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto call = c10::static_intrusive_pointer_cast<BlockCall>(ctx->saved_data["call"].toCapsule());
    const at::AutoGradMode with_gradients(true);
    const auto leaf = [](const at::Tensor& t) { return t.defined() ? t.detach().requires_grad_() : t; };
    const ops::Residual in{{leaf(saved[0]), call->r}, leaf(saved[1])};
    const ops::Residual out = call->block->forward(in, call->documents);
    // Parameters' gradients are added by the operators themselves; only those of the inputs come back here.
    torch::autograd::backward({out.stream.x, out.branch}, gradients);
    return {in.stream.x.grad(), in.branch.defined() ? in.branch.grad() : at::Tensor(), at::Tensor()};
  }
};

}  // namespace

ops::Residual forward_with_recompute(const Block& block, const ops::Residual& in,
                                     const ops::Documents& documents) {
  const auto call = c10::make_intrusive<BlockCall>(&block, in.stream.r, documents);
  const std::optional<at::Tensor> branch = in.branch.defined() ? std::optional(in.branch) : std::nullopt;
  const auto out = RecomputedBlock::apply(in.stream.x, branch, call);
  return {{out[0], block.scale_out()}, out[1]};
}

}  // namespace transxssm
