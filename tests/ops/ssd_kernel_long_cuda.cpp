// The SSD scan's kernels against f64 at the sizes of training: long rows, and numbers of rows around those
// from which the kernels work otherwise.
#include "ssd_kernel_cases.h"

using namespace transxssm;

namespace {

// Everything but the skip, heads that remember about 8, 35 and 150 tokens in turn; with `steady`, a thousand.
SsdCase long_case(const ops::Documents& documents, int64_t heads, int64_t groups, bool steady) {
  SsdCase c = kernel_case(documents, heads, groups);
  add_rope(c, documents.seq_len);
  add_initial_state(c);
  const at::NoGradGuard no_grad;
  if (steady) c.a_log->weight.fill_(-5);
  return c;
}

}  // namespace

TEST_CASE("ssd kernels: close to f64 over a long sequence", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const int64_t tokens = GENERATE(4095, 4097, 65536);
  CAPTURE(tokens);
  SsdCase c = long_case(ops::one_document_per_row(1, tokens, at::kCPU), 1, 1, /*steady=*/true);
  add_d_skip(c);
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: a sum without decay over 65 536 tokens is close to f64", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  SsdCase c = long_case(ops::one_document_per_row(1, 65536, at::kCPU), 1, 1, /*steady=*/true);
  {
    const at::NoGradGuard no_grad;
    c.a_log->weight.fill_(-21);  // e⁻²¹ = 8e-10
  }
  const SsdCase gpu = on_gpu(c);
  const auto [dy, dfinal] = kernel_cotangents(gpu);
  require_close_to_f64(gpu, dy, dfinal, Outliers::none, /*memory=*/65536);
}

TEST_CASE("ssd kernels: close to f64 with 63, 64 and 65 rows of heads", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  // 63 are cut into two segments, 64 are not.
  const auto [batch, heads] = GENERATE(table<int64_t, int64_t>({{9, 7}, {8, 8}, {13, 5}}));
  CAPTURE(batch, heads);
  SsdCase c = long_case(ops::one_document_per_row(batch, 1030, at::kCPU), heads, 1, /*steady=*/false);
  add_d_skip(c);
  require_close_to_f64(on_gpu(c));
}

TEST_CASE("ssd kernels: close to f64 at the sizes that are cut into segments", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const auto [batch, tokens, heads] =
      GENERATE(table<int64_t, int64_t, int64_t>({{1, 32768, 16}, {2, 16384, 8}}));
  CAPTURE(batch, tokens, heads);
  std::vector<std::vector<int64_t>> starts(static_cast<size_t>(batch));
  starts.back() = {700, 4096, 9000, 9001};
  require_close_to_f64(on_gpu(long_case(documents_at(starts, tokens), heads, heads, /*steady=*/false)));
}
