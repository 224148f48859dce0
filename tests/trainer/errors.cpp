// Errors of every allocator are known for what they are, and no message carries a backtrace.
#include "trainer/errors.h"

#include <new>

#include <ATen/ops/empty.h>

#include "core/check.h"
#include "support/catch.h"

using namespace transxssm;

namespace {

template <class F>
std::optional<std::string> shortage(F&& allocate) {
  try {
    allocate();
  } catch (const std::exception& error) {
    return out_of_memory(error);
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("out_of_memory: allocations of LibTorch, of C++ and of a GPU, and no other error") {
  REQUIRE(shortage([] { at::empty({int64_t{1} << 55}, at::kFloat); }) ==
          "an allocation of 128.00 PiB in the CPU's memory failed");
  REQUIRE(shortage([] { throw std::bad_alloc(); }) == "an allocation in the CPU's memory failed");
  REQUIRE(shortage([] { throw c10::OutOfMemoryError({}, "CUDA out of memory"); }) == "CUDA out of memory");
  REQUIRE(shortage([] { TORCH_CHECK(false, "no such shape"); }) == std::nullopt);
  REQUIRE(shortage([] { throw InputError("no such file"); }) == std::nullopt);
}

TEST_CASE("message_of: LibTorch's errors without their backtrace, others as they are") {
  try {
    TORCH_CHECK(false, "no such shape");
  } catch (const std::exception& error) {
    REQUIRE(message_of(error) == "no such shape");
  }
  REQUIRE(message_of(InputError("no such file")) == "no such file");
}

TEST_CASE("message_of: names a place in the source as the repository does, wherever it was built") {
  try {
    expect(false, "the lock is lost");
  } catch (const std::exception& error) {
    REQUIRE(message_of(error).find("the lock is lost (") == 0);
  }
  REQUIRE(message_of(std::runtime_error("lost (/home/me/src/transxssm/src/trainer/run_lock.cpp:31)")) ==
          "lost (src/trainer/run_lock.cpp:31)");
  REQUIRE(message_of(std::runtime_error("lost (../../src/trainer/run_lock.cpp:31)")) ==
          "lost (src/trainer/run_lock.cpp:31)");
  REQUIRE(message_of(InputError("text/src/a.jsonl:3: not JSON")) == "text/src/a.jsonl:3: not JSON");
}
