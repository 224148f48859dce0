// Document ids and positions on a GPU.
#include "ops/documents.h"
#include "support/catch.h"
#include "support/ssd_case.h"

using namespace transxssm;

TEST_CASE("documents: CUDA ids and positions equal the CPU's", "[ops][cuda]") {
  const ops::Documents cpu = documents_at({{1, 5, 6}, {}, {10}}, 11);
  const ops::Documents gpu = ops::make_documents(cpu.offsets.to(at::kCUDA), 3, 11);
  REQUIRE(gpu.ids.is_cuda());
  REQUIRE(same_bits(gpu.ids, cpu.ids));
  REQUIRE(same_bits(gpu.positions, cpu.positions));
}
