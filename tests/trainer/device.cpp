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
