#include "trainer/paths.h"

#include "core/check.h"
#include "core/logging.h"
#include "model/mixer.h"
#include "ops/attention.h"
#include "ops/gemm.h"
#include "ops/ssd.h"

namespace transxssm {

void log_paths(const RunConfig& config, const ComputeDevice& device) {
  log_info("matrix products: " + ops::gemm_source(device.device, device.dtype));
  if (has_mixer(config.model, MixerKind::ssd)) {
    const auto dims = ssd_dims(config.model.ssd, ssd_path(config.kernels));
    log_info("SSD scan: " + ops::ssd_path_description(dims, device.device, device.dtype));
  }
  if (has_mixer(config.model, MixerKind::attention)) {
    const auto dims = attention_dims(config.model.attention, attention_path(config.kernels));
    log_info("attention: " +
             ops::attention_path_description(dims, device.device, device.dtype, config.train.deterministic));
  }
}

}  // namespace transxssm
