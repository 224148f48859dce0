#include "trainer/paths.h"

#include "core/check.h"
#include "core/logging.h"
#include "model/mixer.h"
#include "ops/attention.h"
#include "ops/gemm.h"
#include "ops/ssd.h"

namespace transxssm {

std::vector<std::string> path_lines(const RunConfig& config, const ComputeDevice& device, Decoding decoding) {
  std::vector<std::string> lines = {"matrix products: " + ops::gemm_source(device.device, device.dtype)};
  if (has_mixer(config.model, MixerKind::ssd)) {
    const auto dims = ssd_dims(config.model.ssd, ssd_path(config.kernels));
    lines.push_back("SSD scan: " + ops::ssd_path_description(dims, device.device, device.dtype));
    if (decoding == Decoding::yes)
      lines.push_back("SSD step: " + ops::ssd_step_path_description(dims, device.device, device.dtype));
  }
  if (has_mixer(config.model, MixerKind::attention)) {
    const auto dims = attention_dims(config.model.attention, attention_path(config.kernels));
    lines.push_back("attention: " + ops::attention_path_description(dims, device.device, device.dtype,
                                                                    config.train.deterministic));
  }
  return lines;
}

void log_paths(const RunConfig& config, const ComputeDevice& device, Decoding decoding) {
  for (const std::string& line : path_lines(config, device, decoding)) log_info(line);
}

}  // namespace transxssm
