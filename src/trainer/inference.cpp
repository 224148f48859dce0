#include "trainer/inference.h"

#include "checkpoint/locate.h"
#include "checkpoint/reader.h"
#include "config/load.h"
#include "core/check.h"

namespace transxssm {

InferenceModel load_for_inference(const std::filesystem::path& checkpoint, Device device,
                                  int64_t max_positions) {
  const CheckpointReader reader(resolve_checkpoint(checkpoint));
  InferenceModel out;
  out.config = config_from_json(reader.manifest().run.at("config"));
  out.step = reader.manifest().step;
  out.device = choose_device(device, out.config.precision.compute, "--device");
  out.parameters =
      std::make_unique<FlatParameters>(HybridModel::parameter_specs(out.config.model), out.device.device,
                                       out.device.dtype, ParameterUse::inference);
  out.parameters->load_weights(
      reader.load([](const std::string& name) { return name.starts_with("model/"); }));
  const ModelOptions options{.max_positions = max_positions,
                             .ssd_path = ssd_path(out.config.kernels),
                             .attention_path = attention_path(out.config.kernels)};
  out.model = std::make_unique<HybridModel>(out.config.model, out.parameters->table(), options);
  return out;
}

std::filesystem::path find_tokenizer(const std::filesystem::path& checkpoint, const std::string& given) {
  if (!given.empty()) return given;
  const auto step_folder = resolve_checkpoint(checkpoint);
  auto copy = step_folder.parent_path().parent_path() / kRunTokenizerName;
  if (std::filesystem::exists(copy)) return copy;
  const auto config = config_from_json(CheckpointReader(step_folder).manifest().run.at("config"));
  expect_input(!config.data.tokenizer.empty(),
               concat("the run of ", step_folder.string(),
                      " was trained without a tokenizer: name one with --tokenizer"));
  return config.data.tokenizer;
}

}  // namespace transxssm
