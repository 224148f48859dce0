// Parameter counts and FLOPs.
#include "model/accounting.h"

#include "support/catch.h"

using namespace transxssm;

TEST_CASE("accounting: the defaults are TransXSSM 320M, counted exactly") {
  const auto counts = count_parameters({});
  REQUIRE(counts.total == 369'460'672);
  REQUIRE(counts.non_embedding == 335'906'240);
}

TEST_CASE("accounting: a Transformer's FLOPs per token are 6 per matrix element plus 6·l·d a layer") {
  ModelConfig transformer;
  transformer.layers.pattern = "A";
  const double matrices = 32.0 * 10 * 1024 * 1024 + 32768.0 * 1024;
  REQUIRE(train_flops_per_token(transformer, 4096 / 2.0) == Approx(6 * matrices + 32 * 6.0 * 4096 * 1024));
}

TEST_CASE("accounting: an SSD layer counts 12·128·d beside its matrices") {
  ModelConfig ssd;
  ssd.layers.pattern = "S";
  const double matrices = 32.0 * (10 * 1024 * 1024 + 8 * 1024) + 32768.0 * 1024;
  REQUIRE(train_flops_per_token(ssd, 0) == Approx(6 * matrices + 32 * 12.0 * 128 * 1024));
}
