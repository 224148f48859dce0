// The SSD scan's kernels (ops/ssd.h), widths 128 × 128, for sm_90a.
#pragma once

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

inline constexpr int kSsdWidth = 128;  // head width P and state width N
inline constexpr int kSsdChunk = 64;   // tokens that one step of the scan takes
// A span: the forward pass saves a state before every 128 tokens, and the backward pass forms the product of
// that state and its gradient anew, an "anchor".
inline constexpr int kSsdTokensPerState = 128;
inline constexpr int kSsdChunksPerSpan = kSsdTokensPerState / kSsdChunk;
inline constexpr int kSsdAnchorParts = 8;  // of each such product

inline int64_t ssd_spans(int64_t tokens) { return (tokens + kSsdTokensPerState - 1) / kSsdTokensPerState; }

// Into how many segments a row is cut, each with its own blocks: enough to fill a GPU of 132 multiprocessors,
// none but the last shorter than 512 tokens.
inline int ssd_segments(int64_t batch, int64_t tokens, int64_t heads) {
  constexpr int64_t kEnoughRows = 64, kBlocksWanted = 128, kFewestSpans = 4;
  const int64_t rows = batch * heads, spans = ssd_spans(tokens);
  if (rows >= kEnoughRows || spans < 2 * kFewestSpans) return 1;
  const int64_t wanted =
      kBlocksWanted / rows < spans / kFewestSpans ? kBlocksWanted / rows : spans / kFewestSpans;
  const int64_t spans_per_segment = (spans + wanted - 1) / wanted;
  return static_cast<int>((spans + spans_per_segment - 1) / spans_per_segment);  // none empty
}

// What forward and backward share. Pointers into bf16 matrices are 16-byte aligned, row and batch strides (in
// values) multiples of 8.
//
// The frame of the scan: token t of row b is turned by position positions[b, 0] + t, whatever its document,
// since only differences inside a document matter. For a row's first document that is the absolute frame.
struct SsdInputs {
  int batch, tokens, heads, groups;  // B, T, H, G; G divides H
  const void* packed;  // bf16 [B, T, columns]: C [G·128] | B [G·128] | X [H·128] | τ [H] | anything
  int64_t packed_row_stride, packed_batch_stride;
  int64_t packed_columns;
  const float* a_log;     // [H]
  const float* dt_bias;   // [H]
  const float* d_skip;    // [H] or null
  const float* rope_cos;  // [rope_rows, 64], or null for no rotation
  const float* rope_sin;
  int64_t rope_rows;         // ≥ positions[b, 0] + T; less traps
  const int64_t* positions;  // [B, T]: place in the document; 0 after a row's first token starts a new one
  int segments;              // pieces of a row that run side by side, each from its own state
};

struct SsdForwardParams {
  SsdInputs in;
  const float* initial_state;  // [B, H, 128, 128], absolute frame, or null for zeros
  const float*
      segment_states;  // [B, H, segments, 128, 128] before each segment, from ssd_carry; null for one
  void* y;             // bf16 [B, T, H·128]
  void* saved_states;  // bf16 [B, H, spans, 128, 128] before every 128 tokens; null to save none
  float* final_state;  // [B, H, 128, 128], absolute frame
};

struct SsdBackwardParams {
  SsdInputs in;
  const void* dy;               // bf16 [B, T, H·128]
  const void* saved_states;     // from the forward pass
  const float* final_gradient;  // [B, H, 128, 128] of the final state, absolute frame, or null for zeros
  const float*
      segment_gradients;  // [B, H, segments, 128, 128] of the state after each, from ssd_carry; null for one
  bool has_initial_state;
  void* d_packed;  // bf16 [B, T, columns], contiguous; its columns C, B, X, τ are written
  int64_t d_packed_columns;
  void* d_heads;           // bf16 [2, B, T, H·128]: C's and B's gradients by head; null if G = H
  float* d_initial_state;  // [B, H, 128, 128] or null
  float* d_a_log;          // [H], added to; null for none, and so the next two
  float* d_dt_bias;
  float* d_d_skip;

  // Workspace, f32. By token [B, H, T]:
  float* pairs;    // gradient of s through pairs inside a chunk
  float* inter;    // gradient of s through e^s in the outputs
  float* added;    // gradient of Δ through the chunk's final state, the decay left alone
  float* direct;   // gradient of Δ through pairs inside a chunk, the decay left alone
  float* skip;     // x·dy
  float* anchors;  // [B, H, spans, kSsdAnchorParts]: parts of <state before each, gradient of the state a
                   // chunk on>
  float* sums;     // [3, B, H, kSsdSumParts]: of d_a_log, d_dt_bias, d_d_skip
};
inline constexpr int kSsdSumParts = 8;

// What each segment of a row begins with. Forward: the state before it. Backward: the gradient of the state
// after it.
struct SsdCarryParams {
  SsdInputs in;
  const void* dy;      // bf16 [B, T, H·128]: backward; null: forward
  const float* outer;  // [B, H, 128, 128], absolute frame: initial state or gradient of the final state; null
                       // for zeros
  float* states;       // [B, H, segments, 128, 128], frame of the scan
  float* decays;       // workspace [B, H, segments]
};

bool ssd_has_kernels();  // whether this build has them

// Queue the scan and its gradients.
void ssd_carry(const SsdCarryParams& p, CUstream_st* stream);
void ssd_forward(const SsdForwardParams& p, CUstream_st* stream);
void ssd_backward(const SsdBackwardParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
