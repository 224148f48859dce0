#include "trainer/step_tracer.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/logging.h"
#include "trainer/profiler.h"

namespace transxssm {

class StepTracer::Recording {
 public:
  Recording(std::filesystem::path file, at::Device device) : file_(std::move(file)), profiler_(device) {}
  ~Recording() {
    try {
      make_folders(file_.parent_path());
      profiler_.stop().save(file_);
      log_info(concat("trace: ", file_.string()));
    } catch (const std::exception& error) {
      log_warning(concat("no trace ", file_.string(), ": ", error.what()));
    }
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

 private:
  std::filesystem::path file_;
  Profiler profiler_;
};

std::shared_ptr<StepTracer::Recording> StepTracer::begin(int64_t step) const {
  if (std::find(config_.steps.begin(), config_.steps.end(), step) == config_.steps.end()) return nullptr;
  char name[48];
  std::snprintf(name, sizeof name, "step_%08lld.json", static_cast<long long>(step));
  return std::make_shared<Recording>(folder_ / name, device_);
}

}  // namespace transxssm
