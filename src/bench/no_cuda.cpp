// The timer of builds without CUDA: same symbols, one message.
#include "bench/device_timer.h"
#include "core/check.h"

namespace transxssm::bench {
namespace {

[[noreturn]] void no_cuda() {
  throw InputError("bench times an NVIDIA GPU, but this program was built without CUDA");
}

}  // namespace

std::string find_gpu() { no_cuda(); }
Timing time_on_device(const Workload&, int) { no_cuda(); }
std::vector<double> medians_by_set(const Workload&, int) { no_cuda(); }
std::vector<double> sustained_ms_by_set(const Workload&, double, int) { no_cuda(); }
double copy_bytes_per_second(int) { no_cuda(); }

}  // namespace transxssm::bench
