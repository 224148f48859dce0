// Which checkpoints stay.
#include "checkpoint/retention.h"

#include <map>

#include "checkpoint_case.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

namespace {

using Steps = std::vector<int64_t>;

Steps steps_of(std::vector<CheckpointEntry> entries) {
  Steps steps;
  for (const auto& entry : entries) steps.push_back(entry.step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

}  // namespace

TEST_CASE("retention: the last k valid and every n-th stay, damaged ones neither count nor go") {
  struct Case {
    Steps saved;  // in this order
    Steps damaged;
    Retention rule;
    Steps removed;
  };
  const Case cases[] = {
      {{}, {}, {3, 0}, {}},
      {{10}, {}, {1, 0}, {}},
      {{10, 20, 30}, {}, {3, 0}, {}},
      {{10, 20, 30, 40}, {}, {3, 0}, {10}},
      {{10, 20, 30, 40}, {}, {1, 0}, {10, 20, 30}},
      {{10, 20, 30, 40}, {}, {1, 20}, {10, 30}},
      {{0, 10, 20, 30}, {}, {1, 20}, {10}},
      {{10, 20, 30, 40}, {40}, {1, 0}, {10, 20}},
      {{10, 20, 30, 40}, {30, 40}, {2, 0}, {}},
      {{10, 20, 30, 40}, {10, 20, 30, 40}, {1, 0}, {}},
      {{10, 40, 20, 30}, {}, {2, 0}, {10, 40}},  // went back from 40 to 10: 20 and 30 are newest
  };
  for (const Case& c : cases) {
    std::vector<CheckpointEntry> entries;
    for (const int64_t step : c.saved) entries.push_back({step_folder_name(step), step, Manifest{}, ""});
    const auto damage = [&](const CheckpointEntry& entry) -> std::string {
      return std::count(c.damaged.begin(), c.damaged.end(), entry.step) ? "damaged" : "";
    };
    const RetentionPlan plan = plan_retention(entries, c.rule, damage);
    REQUIRE(steps_of(plan.removed) == c.removed);
    REQUIRE(plan.kept.size() + plan.removed.size() + plan.damaged.size() == c.saved.size());
  }
}

TEST_CASE("retention: keeping none is refused") {
  REQUIRE_FALSE(input_error_of([] { plan_retention({}, {0, 0}); }).empty());
}

TEST_CASE("retention: a run keeps by the rules while it saves") {
  const TempFolder folder;
  Checkpointer saver(folder.path(), {2, 40});
  for (int64_t step = 10; step <= 90; step += 10) saver.save(step, small_state(step), {});
  REQUIRE(steps_of(list_checkpoints(folder.path())) == Steps{40, 80, 90});
}

TEST_CASE("retention: nothing is removed while its successors are damaged") {
  const TempFolder folder;
  {
    Checkpointer saver(folder.path(), {1, 0});
    saver.save(10, small_state(10), {});
  }
  // A saver that keeps two, so that step 10 is still there when step 20 goes bad.
  Checkpointer saver(folder.path(), {2, 0});
  flip_byte(first_shard(saver.save(20, small_state(20), {})), 5);
  saver.save(30, small_state(30), {});
  REQUIRE(steps_of(list_checkpoints(folder.path())) == Steps{10, 20, 30});
  saver.save(40, small_state(40), {});
  REQUIRE(steps_of(list_checkpoints(folder.path())) == Steps{30, 40});
}
