// Promises of the whole model, for every architecture: nothing looks ahead, documents don't see each other,
// and how the work is cut (chunks, packing) doesn't change the result.
#include "model/hybrid_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "support/catch.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

ops::Documents documents_at(std::vector<int32_t> offsets, int64_t batch, int64_t tokens) {
  return ops::make_documents(at::tensor(offsets, at::kInt), batch, tokens);
}

ops::Documents whole_rows(int64_t batch, int64_t tokens) {
  return ops::one_document_per_row(batch, tokens, at::kCPU);
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm().clamp_min(1e-30)).item<double>();
}

// Different orders of f32 summation through a few layers.
constexpr double kRounding = 2e-5;

}  // namespace

TEST_CASE("model: a token changes nothing before it, bit for bit") {
  const at::NoGradGuard no_grad;
  for (const auto& name : architectures()) {
    CAPTURE(name);
    TinyModel tiny(tiny_config(name));
    const int64_t changed = GENERATE(1, 17, 36);
    const auto tokens = random_tokens(2, 37, 1);
    auto other = tokens.clone();
    other.index_put_({0, changed}, (other[0][changed] + 1) % 61);
    const auto before = tiny.model.logits(tokens, whole_rows(2, 37));
    const auto after = tiny.model.logits(other, whole_rows(2, 37));
    REQUIRE(at::equal(before[0].narrow(0, 0, changed), after[0].narrow(0, 0, changed)));
    REQUIRE(at::equal(before[1], after[1]));
    REQUIRE_FALSE(at::equal(before[0][changed], after[0][changed]));
  }
}

TEST_CASE("model: a changed document changes no logit of another, bit for bit") {
  const at::NoGradGuard no_grad;
  for (const auto& name : architectures()) {
    CAPTURE(name);
    TinyModel tiny(tiny_config(name));
    const auto documents = documents_at({0, 5, 6, 23, 40, 57, 80}, 2, 40);
    const auto tokens = random_tokens(2, 40, 2);
    auto other = tokens.clone();
    other[0].narrow(0, 6, 17).add_(1).remainder_(61);  // the document [6, 23)
    const auto before = tiny.model.logits(tokens, documents).flatten(0, 1);
    const auto after = tiny.model.logits(other, documents).flatten(0, 1);
    REQUIRE(at::equal(before.narrow(0, 0, 6), after.narrow(0, 0, 6)));
    REQUIRE(at::equal(before.narrow(0, 23, 57), after.narrow(0, 23, 57)));
    REQUIRE_FALSE(at::equal(before[6], after[6]));
  }
}

TEST_CASE("model: a document without counted labels leaves every gradient as it was, bit for bit") {
  for (const auto& name : architectures()) {
    CAPTURE(name);
    const auto documents = documents_at({0, 13, 32}, 1, 32);
    auto labels = random_tokens(1, 32, 3);
    labels[0].narrow(0, 0, 13).fill_(-1);
    std::vector<std::vector<at::Tensor>> gradients;
    for (const uint64_t seed : {4, 5}) {
      TinyModel tiny(tiny_config(name));
      auto tokens = random_tokens(1, 32, 6);
      tokens[0].narrow(0, 0, 13).copy_(random_tokens(1, 13, seed)[0]);
      tiny.model.add_gradients(tokens, labels, documents, at::ones({}));
      std::vector<at::Tensor> own;
      for (const auto& [parameter_name, parameter] : tiny.parameters.table().all())
        own.push_back(parameter->grad.clone());
      gradients.push_back(std::move(own));
    }
    for (size_t i = 0; i < gradients[0].size(); ++i) REQUIRE(at::equal(gradients[0][i], gradients[1][i]));
  }
}

TEST_CASE("model: documents packed in a window give what they give alone") {
  const at::NoGradGuard no_grad;
  for (const auto& name : architectures()) {
    CAPTURE(name);
    TinyModel tiny(tiny_config(name));
    const auto tokens = random_tokens(1, 45, 8);
    const auto packed = tiny.model.logits(tokens, documents_at({0, 1, 18, 45}, 1, 45))[0];
    const std::vector<int64_t> borders{0, 1, 18, 45};
    for (size_t d = 0; d + 1 < borders.size(); ++d) {
      const int64_t length = borders[d + 1] - borders[d];
      const auto alone = tiny.model.logits(tokens.narrow(1, borders[d], length), whole_rows(1, length))[0];
      REQUIRE(relative_error(packed.narrow(0, borders[d], length), alone) < kRounding);
    }
  }
}

TEST_CASE("model: the chunk length changes rounding only") {
  const at::NoGradGuard no_grad;
  auto config = tiny_config("transxssm");
  TinyModel tiny(config);
  const auto tokens = random_tokens(1, 75, 10);
  const auto documents = documents_at({0, 31, 75}, 1, 75);
  const auto expected = tiny.model.logits(tokens, documents);
  for (const int64_t chunk : {32, 64, 128}) {
    config.ssd.chunk_size = chunk;
    const HybridModel other(config, tiny.parameters.table(), {256});
    REQUIRE(relative_error(other.logits(tokens, documents), expected) < kRounding);
  }
}

TEST_CASE("model: recompute gives the same loss and gradients, bit for bit") {
  const Recompute recompute = GENERATE(Recompute::selective, Recompute::full);
  for (const auto& name : architectures()) {
    CAPTURE(name);
    const auto tokens = random_tokens(2, 29, 11);
    const auto labels = random_tokens(2, 29, 12);
    const auto documents = documents_at({0, 11, 29, 58}, 2, 29);
    TinyModel kept(tiny_config(name));
    TinyModel recomputed(tiny_config(name), {256, true, recompute});
    const auto loss_kept = kept.model.add_gradients(tokens, labels, documents, at::ones({})).loss;
    const auto loss_recomputed = recomputed.model.add_gradients(tokens, labels, documents, at::ones({})).loss;
    REQUIRE(at::equal(loss_kept, loss_recomputed));
    REQUIRE(at::equal(loss_kept, kept.model.loss(tokens, labels, documents)));
    for (const auto& [parameter_name, parameter] : kept.parameters.table().all()) {
      CAPTURE(parameter_name);
      REQUIRE(at::equal(parameter->grad, recomputed.parameters.table().at(parameter_name)->grad));
    }
  }
}

TEST_CASE("model: a step's first micro-batch replaces what the last step left, later ones add, bit for bit") {
  for (const auto& name : architectures()) {
    CAPTURE(name);
    const auto tokens = random_tokens(2, 29, 11), labels = random_tokens(2, 29, 12);
    TinyModel fresh(tiny_config(name)), used(tiny_config(name));
    for (const at::Tensor& grad : used.parameters.grads()) grad.fill_(NAN);
    used.parameters.start_gradients();
    for (TinyModel* tiny : {&fresh, &used})
      tiny->model.add_gradients(tokens, labels, whole_rows(2, 29), at::ones({}));
    used.parameters.complete_gradients();
    for (TinyModel* tiny : {&fresh, &used})
      tiny->model.add_gradients(tokens.flip(0), labels, whole_rows(2, 29), at::ones({}));
    for (const auto& [parameter_name, parameter] : fresh.parameters.table().all()) {
      CAPTURE(parameter_name);
      REQUIRE(at::equal(parameter->grad, used.parameters.table().at(parameter_name)->grad));
    }
  }
}

TEST_CASE("model: every parameter gets a gradient") {
  for (const auto& name : architectures()) {
    CAPTURE(name);
    TinyModel tiny(tiny_config(name));
    tiny.model.add_gradients(random_tokens(2, 33, 13), random_tokens(2, 33, 14), whole_rows(2, 33),
                             at::ones({}));
    for (const auto& [parameter_name, parameter] : tiny.parameters.table().all()) {
      CAPTURE(parameter_name);
      REQUIRE(parameter->grad.abs().max().item<float>() > 0);
    }
  }
}

TEST_CASE("model: SSD layers don't see a shift of all positions") {
  const at::NoGradGuard no_grad;
  auto config = tiny_config("transxssm");
  config.layers.pattern = "S";
  TinyModel tiny(config);
  const auto tokens = random_tokens(1, 40, 15);
  const auto shifted = ops::one_document_per_row(1, 40, at::kCPU, /*first_position=*/100);
  REQUIRE(relative_error(tiny.model.logits(tokens, shifted), tiny.model.logits(tokens, whole_rows(1, 40))) <
          kRounding);
}
