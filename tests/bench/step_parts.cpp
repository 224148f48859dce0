// Kernels are counted where they belong, and idle time is what no kernel covers.
#include "bench/step_parts.h"

#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::bench;

TEST_CASE("step parts: kernels' names say what they belong to") {
  const auto part = [](const char* kernel) { return std::string(name_of(part_of(kernel))); };
  REQUIRE(part("nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_TNT") == "GEMM");
  REQUIRE(part("sm90_xmma_gemm_bf16f32_bf16f32_f32_tn_n_tilesize128x128x64_cublas") == "GEMM");
  REQUIRE(part("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x64>(Params)") == "GEMM");
  REQUIRE(part("void transxssm::kernels::ssd_fwd_kernel<true>(SsdForwardParams)") == "SSD");
  REQUIRE(part("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_7") == "attention");
  REQUIRE(part("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128>>(Flash_fwd_params)") ==
          "attention");
  REQUIRE(part("transxssm::kernels::rms_norm_backward_kernel<8>(RmsNormBackwardParams)") == "norm");
  REQUIRE(part("void transxssm::kernels::swiglu_fwd_kernel(SwigluParams)") == "activation");
  REQUIRE(part("transxssm::kernels::cross_entropy_cluster_kernel<4>(CrossEntropyParams)") == "loss");
  REQUIRE(part("transxssm::kernels::adamw_kernel(AdamWParams)") == "optimizer");
  REQUIRE(part("Memset (Device)") == "other");
}

TEST_CASE("step parts: times are means over steps, side by side counts once as busy") {
  const auto time = step_time(
      {{"adamw", 6'000'000, 8'000'000}, {"nvjet", 0, 2'000'000}, {"ssd_fwd", 1'000'000, 4'000'000}}, 2);
  REQUIRE(time.ms[static_cast<size_t>(StepPart::gemm)] == Approx(1.0));
  REQUIRE(time.ms[static_cast<size_t>(StepPart::ssd)] == Approx(1.5));
  REQUIRE(time.ms[static_cast<size_t>(StepPart::optimizer)] == Approx(1.0));
  REQUIRE(time.busy_ms == Approx(3.0));
  REQUIRE(time.span_ms == Approx(4.0));
  REQUIRE(step_time({}, 3).span_ms == 0);
}
