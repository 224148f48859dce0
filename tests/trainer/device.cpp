// Which device computes, and what is said where one cannot.
#include "trainer/device.h"

#include "support/catch.h"

using namespace transxssm;

TEST_CASE("device: a driver too old for the CUDA runtime is named with both versions", "[trainer]") {
  REQUIRE(driver_problem({.driver = 12040, .runtime = 13000, .driver_too_old = true}) ==
          "the NVIDIA driver serves CUDA 12.4 at most, this program needs 13.0: install a newer driver");
}

TEST_CASE("device: no driver, and one that serves the runtime, are no problem of the driver", "[trainer]") {
  REQUIRE(driver_problem({}).empty());
  REQUIRE(driver_problem({.driver = 13010, .runtime = 13000}).empty());
}

TEST_CASE("device: a GPU that the program has no code for is named with both capabilities", "[trainer]") {
  REQUIRE(capability_problem("Tesla T4", 75, 80) ==
          "Tesla T4 has compute capability 7.5, this program needs 8.0 at least "
          "(TRANSXSSM_CUDA_ARCHITECTURES of the build): use a newer GPU");
  REQUIRE(capability_problem("NVIDIA A10", 86, 80).empty());
  REQUIRE(capability_problem("NVIDIA B200", 100, 80).empty());
}
