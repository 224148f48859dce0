// Warpgroup matrix products with fp32 accumulators in registers (PTX ISA "wgmma"), operands bf16.
//
// D [64 × n] += A [64 × 16] B [16 × n], n = 32, 64 or 128. Thread t of the warpgroup (warp w = t / 32, lane
// l) holds of D rows 16 w + l / 4 (+ 8) and columns 8 k + 2 (l mod 4) (+ 1): element 4 k + 2 (row + 8?) +
// (column + 1?). That is also, rounded and packed in pairs, the layout of A in registers.
#pragma once

#include <cstdint>

#include "csrc_cuda/sm90/swizzle.cuh"

namespace transxssm::kernels::sm90 {

// How an operand lies in swizzled tiles: with its contraction index along the rows' 128 bytes, or across
// rows.
enum class Major { contraction, outer };

// A matrix in shared memory for wgmma: tiles side by side, kColumnStride bytes from one 64 columns to the
// next. In 16-byte units: address, bytes to the next 64 columns (outer major) and to the next eight rows; bit
// 62 asks for the 128-byte swizzle.
template <int kColumnStride>
struct Operand {
  const void* tiles;

  __device__ uint64_t descriptor() const {
    constexpr uint64_t kTileStride = kColumnStride / 16, kGroupStride = 8 * kRowBytes / 16;
    return (uint64_t{1} << 62) | (kGroupStride << 32) | (kTileStride << 16) |
           ((shared_address(tiles) & 0x3ffff) >> 4);
  }
  // What to add for the contraction's next 16 steps, `step` times. Contraction major runs through 64 columns
  // in four steps of 32 bytes, then goes on in the next tile; outer major runs down the rows.
  template <Major kMajor>
  __device__ static constexpr uint64_t advance(int step) {
    if (kMajor == Major::outer) return static_cast<uint64_t>(step) * (16 * kRowBytes / 16);
    return static_cast<uint64_t>(step / 4) * (kColumnStride / 16) + static_cast<uint64_t>(step % 4) * 2;
  }
};
// 64 rows in neighbouring tiles; 128 rows in pairs of tiles.
using Rows64 = Operand<kTileBytes>;
using Rows128 = Operand<2 * kTileBytes>;

// Registers that later products use are settled; before the first product of a batch.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
#define TRANSXSSM_ACCUMULATORS_16                                                                 \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define TRANSXSSM_ACCUMULATORS_32                                                                           \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),           \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
      "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),            \
      "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),            \
      "+f"(d[30]), "+f"(d[31])
#define TRANSXSSM_ACCUMULATORS_64                                                                           \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),           \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
      "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),            \
      "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),            \
      "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),            \
      "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),            \
      "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]),            \
      "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]),            \
      "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

// One instruction; `accumulate` 0 overwrites D.
template <Major kMajorA, Major kMajorB>
__device__ void wgmma(float (&d)[16], uint64_t a, uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "%16, %17, p, 1, 1, %19, %20;\n}\n"
      : TRANSXSSM_ACCUMULATORS_16
      : "l"(a), "l"(b), "r"(accumulate), "n"(kMajorA == Major::outer), "n"(kMajorB == Major::outer));
}
template <Major kMajorA, Major kMajorB>
__device__ void wgmma(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, p, 1, 1, %35, %36;\n}\n"
      : TRANSXSSM_ACCUMULATORS_32
      : "l"(a), "l"(b), "r"(accumulate), "n"(kMajorA == Major::outer), "n"(kMajorB == Major::outer));
}
template <Major kMajorB>
__device__ void wgmma(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}\n"
      : TRANSXSSM_ACCUMULATORS_32
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kMajorB == Major::outer));
}

template <Major kMajorA, Major kMajorB>
__device__ void wgmma(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, p, 1, 1, %67, %68;\n}\n"
      : TRANSXSSM_ACCUMULATORS_64
      : "l"(a), "l"(b), "r"(accumulate), "n"(kMajorA == Major::outer), "n"(kMajorB == Major::outer));
}
template <Major kMajorB>
__device__ void wgmma(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}\n"
      : TRANSXSSM_ACCUMULATORS_64
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kMajorB == Major::outer));
}

#undef TRANSXSSM_ACCUMULATORS_16
#undef TRANSXSSM_ACCUMULATORS_32
#undef TRANSXSSM_ACCUMULATORS_64

// D (+)= A B over a contraction of 16 · kSteps, both operands in shared memory.
template <int kSteps, Major kMajorA, Major kMajorB, int kStrideA, int kStrideB, int kCount>
__device__ void multiply(float (&d)[kCount], Operand<kStrideA> a, Operand<kStrideB> b, bool accumulate) {
  const uint64_t a0 = a.descriptor(), b0 = b.descriptor();
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
    wgmma<kMajorA, kMajorB>(d, a0 + a.template advance<kMajorA>(step), b0 + b.template advance<kMajorB>(step),
                            accumulate || step > 0);
}
// The same with A in registers, a[step] for each 16 of the contraction.
template <Major kMajorB, int kSteps, int kStrideB, int kCount>
__device__ void multiply(float (&d)[kCount], const uint32_t (&a)[kSteps][4], Operand<kStrideB> b,
                         bool accumulate) {
  const uint64_t b0 = b.descriptor();
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
    wgmma<kMajorB>(d, a[step], b0 + b.template advance<kMajorB>(step), accumulate || step > 0);
}

}  // namespace transxssm::kernels::sm90
