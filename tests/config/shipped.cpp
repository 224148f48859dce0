// The nine files of configs/: complete, as the recipe says, with the parameter counts that the project
// states.
#include <cmath>
#include <fstream>
#include <map>

#include "config/load.h"
#include "config/tree.h"
#include "config/walk.h"
#include "config/yaml_case.h"
#include "support/catch.h"
#include "support/source_dir.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

// Parameters, and those without the embedding. `exact`: else within 1 %. 0: not stated.
struct Stated {
  int64_t total = 0;
  int64_t non_embedding = 0;
  bool exact = false;
};

const std::map<std::string, Stated>& stated() {
  static const std::map<std::string, Stated> counts = {
      {"quickstart", {}},
      {"transxssm-320m", {369460672, 335906240, true}},
      {"transformer-320m", {369230848, 0, true}},
      {"mamba2-320m", {0, 336000000, false}},
      {"hybrid-plain-320m", {0, 336000000, false}},
      {"transxssm-1.3b", {1410468736, 1343359872, true}},
      {"transformer-1.3b", {1409550336, 0, true}},
      {"mamba2-1.3b", {0, 1344000000, false}},
      {"hybrid-plain-1.3b", {0, 1343000000, false}},
  };
  return counts;
}

std::filesystem::path shipped_file(const std::string& name) {
  return kSourceDir / "configs" / (name + ".yaml");
}

int64_t attention_parameters(const ModelConfig& model) {
  const AttentionConfig& a = model.attention;
  const int64_t q_and_o = 2 * a.num_heads * a.head_dim * model.hidden_size;
  const int64_t k_and_v = 2 * a.num_kv_heads * a.head_dim * model.hidden_size;
  return q_and_o + k_and_v + (a.qk_norm ? 2 * a.head_dim : 0);
}

int64_t ssd_parameters(const ModelConfig& model) {
  const SsdConfig& s = model.ssd;
  const int64_t inner = s.num_heads * s.head_dim;
  const int64_t c_and_b = 2 * s.num_groups * s.state_dim;
  const int64_t rows = c_and_b + inner + s.num_heads + (s.gate ? inner : 0);  // C, B, X, dt, z
  const int64_t a_log_and_dt_bias = 2 * s.num_heads;
  const int64_t convolution = s.conv_width > 0 ? (c_and_b + inner) * (s.conv_width + 1) : 0;  // taps and bias
  return (rows + inner) * model.hidden_size + a_log_and_dt_bias + convolution + (s.gate ? inner : 0) +
         (s.d_skip ? s.num_heads : 0) + (s.bc_norm ? 2 * s.state_dim : 0);
}

// Counted here on its own, from the definition of the network, not by the model's accounting.
int64_t non_embedding_parameters(const ModelConfig& model) {
  const int64_t halves = model.intermediate_size > 0 ? 2 : 1;
  const int64_t vectors = model.residual == ResidualKind::learned ? 2 : 1;  // norm, residual scale
  int64_t sum = model.hidden_size;                                          // the final norm
  for (const MixerKind kind : layer_mixers(model)) {
    sum += kind == MixerKind::attention ? attention_parameters(model) : ssd_parameters(model);
    sum += 3 * model.hidden_size * model.intermediate_size + halves * vectors * model.hidden_size;
  }
  return sum;
}

// "369 460 672 parameters", as the opening comment of a file says it.
std::string spaced(int64_t count) {
  std::string text = std::to_string(count);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ' ');
  return text;
}

std::string opening_comment(const std::string& name) {
  std::ifstream file(shipped_file(name));
  std::string text;
  for (std::string line; std::getline(file, line) && line.starts_with('#');) text += line;
  return text;
}

void check_count(int64_t count, int64_t expected, bool exact) {
  if (expected == 0) return;
  if (exact) CHECK(count == expected);
  CHECK(std::abs(count - expected) <= expected / 100);
}

}  // namespace

TEST_CASE("shipped configs: the nine files are there and no others") {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(shipped_file("x").parent_path())) {
    INFO(entry.path());
    CHECK(stated().contains(entry.path().stem().string()));
    ++files;
  }
  CHECK(files == stated().size());
}

TEST_CASE("shipped configs: each loads, and its resolved YAML loads to the same") {
  for (const auto& [name, counts] : stated()) {
    INFO(name);
    const RunConfig config = load_config(shipped_file(name));
    CHECK(load_text(to_yaml(config)) == config);
    CHECK(config_from_json(to_json(config)) == config);
    CHECK(config.train.run_dir == "runs/" + name);
  }
}

TEST_CASE("shipped configs: one override is enough for another schedule or another initialisation") {
  for (const auto& [name, counts] : stated()) {
    for (const std::string variant :
         {"schedule.type=cosine", "schedule.type=linear", "schedule.type=constant", "schedule.type=wsd",
          "model.ssd.init=published"}) {
      INFO(name << " --set " << variant);
      CHECK_NOTHROW(load_config(shipped_file(name), {variant}));
    }
  }
}

TEST_CASE("shipped configs: each spells every field") {
  for (const auto& [name, counts] : stated()) {
    const Tree tree = read_yaml_tree(shipped_file(name));
    const bool by_pattern = !load_config(shipped_file(name)).model.layers.pattern.empty();
    walk_leaves(RunConfig{}, [&](const std::string& key, const Field&, const auto&, Effect) {
      INFO(name << " " << key);
      const bool replaced = by_pattern && key.starts_with("model.layers.attention_");
      CHECK((tree.find(key) != nullptr) != replaced);
    });
  }
}

TEST_CASE("shipped configs: parameter counts are those stated, also in their comments") {
  for (const auto& [name, counts] : stated()) {
    INFO(name);
    const ModelConfig model = load_config(shipped_file(name)).model;
    CHECK(model.tie_word_embeddings);
    const int64_t count = non_embedding_parameters(model);
    check_count(count, counts.non_embedding, counts.exact);
    const int64_t total = count + model.vocab_size * model.hidden_size;
    check_count(total, counts.total, counts.exact);
    if (name != "quickstart")
      CHECK(opening_comment(name).find(spaced(total) + " parameters") != std::string::npos);
  }
}

TEST_CASE("shipped configs: the recipe is the same in all large files but for what the size changes") {
  const RunConfig base = load_config(shipped_file("transxssm-320m"));
  CHECK(base.optimizer.lr == 2e-3);
  CHECK(base.train.max_steps * base.train.global_batch_size * base.train.seq_len == 32000LL * 2097152);
  for (const auto& [name, counts] : stated()) {
    if (name == "quickstart") continue;
    INFO(name);
    RunConfig config = load_config(shipped_file(name));
    if (name.ends_with("1.3b")) {
      CHECK(config.optimizer.lr == 1e-3);
      CHECK(config.schedule.warmup_steps == 2000);
      config.optimizer.lr = base.optimizer.lr;
      config.schedule.warmup_steps = base.schedule.warmup_steps;
      config.schedule.warmup_ratio = base.schedule.warmup_ratio;
      config.train.micro_batch_size = base.train.micro_batch_size;
    }
    config.train.run_dir = base.train.run_dir;
    config.model = base.model;
    CHECK(config == base);
  }
}
