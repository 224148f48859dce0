#include "model/recompute.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace transxssm {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct BlockCall : torch::CustomClassHolder {
  BlockCall(const Block* called_block, ops::Documents call_documents)
      : block(called_block), documents(std::move(call_documents)) {}
  const Block* block;
  ops::Documents documents;
};

class RecomputedBlock : public torch::autograd::Function<RecomputedBlock> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& u,
                               const c10::intrusive_ptr<BlockCall>& call) {
    ctx->save_for_backward({x, u});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    auto out = call->block->forward({x, u}, call->documents);  // gradients are off inside a Function
    return {out.x_btd, out.u_btd};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto call = c10::static_intrusive_pointer_cast<BlockCall>(ctx->saved_data["call"].toCapsule());
    const at::AutoGradMode with_gradients(true);
    const Stream in{saved[0].detach().requires_grad_(), saved[1].detach().requires_grad_()};
    const Stream out = call->block->forward(in, call->documents);
    // Parameters' gradients are added by the operators themselves; only those of the inputs come back here.
    torch::autograd::backward({out.x_btd, out.u_btd}, gradients);
    return {in.x_btd.grad(), in.u_btd.grad(), at::Tensor()};
  }
};

}  // namespace

Stream forward_with_recompute(const Block& block, const Stream& in, const ops::Documents& documents) {
  const auto call = c10::make_intrusive<BlockCall>(&block, documents);
  const auto out = RecomputedBlock::apply(in.x_btd, in.u_btd, call);
  return {out[0], out[1]};
}

}  // namespace transxssm
