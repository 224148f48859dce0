// Checks of values that only the device knows.
#pragma once

// What assert() calls: release builds have no assert().
extern "C" __host__ __device__ __attribute__((noreturn)) void __assert_fail(const char* message,
                                                                            const char* file, unsigned line,
                                                                            const char* function) noexcept;

namespace transxssm::kernels {

// Not for kernels with wgmma: ptxas serialises their products around a call.
//
// Where `holds` is false, prints the message with block and thread and ends all work on the GPU: the next
// call that waits for it throws.
__device__ inline void expect_on_device(bool holds, const char* message) {
  if (!holds) __assert_fail(message, __FILE__, __LINE__, "expect_on_device");
}

}  // namespace transxssm::kernels
