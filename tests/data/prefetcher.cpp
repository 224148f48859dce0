// The prefetch thread: order, bound, errors and an end at any moment.
#include "data/prefetcher.h"

#include <atomic>
#include <stdexcept>
#include <thread>

#include "support/catch.h"

using namespace transxssm;

TEST_CASE("prefetcher: items come in order, never more than the depth ahead") {
  std::atomic<int> made = 0;
  Prefetcher<int> prefetcher(2, [&] { return made++; });
  double waited = 0;
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(prefetcher.next(waited) == i);
    // i + 1 taken, 2 in the queue.
    REQUIRE(made <= i + 4);
  }
  CHECK(waited >= 0);
}

TEST_CASE("prefetcher: an exception comes out after the items before it, and stays") {
  int made = 0;
  Prefetcher<int> prefetcher(2, [&] {
    if (made == 3) throw std::runtime_error("no more");
    return made++;
  });
  double waited = 0;
  for (int i = 0; i < 3; ++i) CHECK(prefetcher.next(waited) == i);
  CHECK_THROWS_WITH(prefetcher.next(waited), "no more");
  CHECK_THROWS_WITH(prefetcher.next(waited), "no more");
}

TEST_CASE("prefetcher: it ends whether the thread works, waits or has failed") {
  for (int i = 0; i < 50; ++i) {
    Prefetcher<int> working(1, [] { return 1; });
    Prefetcher<int> failing(1, []() -> int { throw std::runtime_error("at once"); });
  }
}

TEST_CASE("prefetcher: waiting is measured") {
  Prefetcher<int> slow(1, [] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    return 1;
  });
  double waited = 0;
  slow.next(waited);
  CHECK(waited > 0.001);
}
