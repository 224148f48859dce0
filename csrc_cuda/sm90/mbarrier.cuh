// Barriers in shared memory that count arrivals and bytes (PTX ISA "mbarrier"), and the named barriers of a
// block.
#pragma once

#include <cstdint>

namespace transxssm::kernels::sm90 {

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// In a build with TRANSXSSM_RANDOM_DELAYS a warp now and then sleeps up to 2 µs before it arrives at a
// barrier and after it has passed one: no result may depend on who comes first. The same for all lanes.
__device__ inline void delay_at_random() {
#ifdef TRANSXSSM_RANDOM_DELAYS
  uint32_t random = (static_cast<uint32_t>(clock64()) ^ (threadIdx.x / 32 * 0x9e3779b9u)) * 0x85ebca6bu;
  random = (random ^ random >> 15) * 0xc2b2ae35u;
  __nanosleep(random % 4 == 0 ? random >> 16 & 2047u : 0u);
#endif
}

// A pipeline slot's flag. It completes a phase when `arrivals` threads arrived and all announced bytes
// landed.
struct Mbarrier {
  uint64_t bits;

  __device__ void init(uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(arrivals));
  }
  __device__ void arrive() {
    delay_at_random();
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
  }
  // Arrives and announces bytes that asynchronous copies will bring.
  __device__ void arrive_expecting(uint32_t bytes) {
    delay_at_random();
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)),
                 "r"(bytes)
                 : "memory");
  }
  // Waits for the end of the phase with this parity: 0 for the first, 1 for the second, and so on.
  __device__ void wait(uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(shared_address(this)),
        "r"(parity)
        : "memory");
    delay_at_random();
  }
};

// Makes initialised barriers visible to the copy engine; before the block's first __syncthreads().
__device__ inline void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Orders this thread's writes to shared memory before later reads of it by wgmma and bulk copies.
__device__ inline void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// One of the block's sixteen barriers for `threads` of its threads; 0 is __syncthreads()'s.
__device__ inline void named_barrier_sync(int id, int threads) {
  delay_at_random();
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
  delay_at_random();
}

// For a launch that may overlap the one before it (LaunchShape::overlaps): the grid before lets it start once
// all its blocks have called the first; the second waits until that grid has ended and its writes can be
// seen.
__device__ inline void let_next_grid_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
__device__ inline void wait_for_grid_before() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// Gives registers to, or takes them from, every thread of this warpgroup.
template <int kRegisters>
__device__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace transxssm::kernels::sm90
