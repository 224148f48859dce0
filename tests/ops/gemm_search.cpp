// How an algorithm is chosen among proposals, and kept between runs: no GPU needed.
#include "ops/gemm_search.h"

#include <cstdlib>
#include <fstream>

#include "support/catch.h"
#include "support/temp_folder.h"

using namespace transxssm;
using kernels::GemmAlgorithm;
using kernels::GemmMachine;

TEST_CASE("gemm search: the fastest proposal, but the first where nothing is 1 % faster") {
  const std::vector<GemmAlgorithm> proposals{{1}, {2}, {3}};
  const auto chosen = [&](std::vector<double> ms) {
    return ops::search_gemm(proposals, [&](const GemmAlgorithm& a) { return ms.at(a[0] - 1); })[0];
  };
  REQUIRE(chosen({1.0, 0.995, 0.992}) == 1);
  REQUIRE(chosen({1.0, 0.98, 0.985}) == 2);
  REQUIRE(chosen({1.0, 0.98, 0.97}) == 3);
  REQUIRE(ops::search_gemm({{7}}, [](const GemmAlgorithm&) { return 1.0; })[0] == 7);
}

TEST_CASE("gemm search: small products are not worth one") {
  REQUIRE_FALSE(ops::worth_a_search({kernels::GemmKind::forward, 256, 256, 256}));
  REQUIRE(ops::worth_a_search({kernels::GemmKind::forward, 8192, 1024, 1024}));
}

TEST_CASE("gemm search: what was found is kept by machine; a broken file costs a search, not a run") {
  const test::TempFolder cache;
  ::setenv("XDG_CACHE_HOME", (cache / "deep").c_str(), 1);
  const GemmMachine here{130100, 90, 132}, other{130100, 80, 108};
  REQUIRE_FALSE(ops::kept_gemm(here, "forward 1 2 3"));
  ops::keep_gemm(here, "forward 1 2 3", {5, 6});
  ops::keep_gemm(here, "forward 4 5 6", {7});
  REQUIRE(ops::kept_gemm(here, "forward 1 2 3") == GemmAlgorithm{5, 6});
  REQUIRE(ops::kept_gemm(here, "forward 4 5 6") == GemmAlgorithm{7});
  REQUIRE_FALSE(ops::kept_gemm(other, "forward 1 2 3"));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cache / "deep"))
    if (entry.is_regular_file()) std::ofstream(entry.path()) << "{";
  REQUIRE_FALSE(ops::kept_gemm(here, "forward 1 2 3"));
  ops::keep_gemm(here, "forward 1 2 3", {8});
  REQUIRE(ops::kept_gemm(here, "forward 1 2 3") == GemmAlgorithm{8});
  ::unsetenv("XDG_CACHE_HOME");
}
