#include "checkpoint/retention.h"

#include <algorithm>

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;

RetentionPlan plan_retention(std::vector<CheckpointEntry> entries, const Retention& retention,
                             const DamageOf& damage) {
  expect_input(retention.keep_last >= 1 && retention.keep_every >= 0,
               concat("checkpoints to keep: the last ", retention.keep_last, " and every ",
                      retention.keep_every, "th step; the first must be at least 1, the second at least 0"));
  RetentionPlan plan;
  int64_t verified = 0;
  std::reverse(entries.begin(), entries.end());
  for (auto& entry : entries) {
    const bool counts = verified < retention.keep_last;
    if (counts && entry.problem.empty()) entry.problem = damage(entry);
    if (!entry.problem.empty()) {
      plan.damaged.push_back(std::move(entry));
    } else if (counts) {
      ++verified;
      plan.kept.push_back(std::move(entry));
    } else {
      const bool nth = retention.keep_every > 0 && entry.step % retention.keep_every == 0;
      (nth ? plan.kept : plan.removed).push_back(std::move(entry));
    }
  }
  return plan;
}

void remove_checkpoint(const fs::path& folder) {
  const fs::path doomed = folder.parent_path() / concat(".tmp-removed-", folder.filename().string());
  fs::remove_all(doomed);
  rename_durably(folder, doomed);
  fs::remove_all(doomed);
}

}  // namespace transxssm
