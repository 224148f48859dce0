// main of every test binary. Where there is no GPU, whatever is selected runs without the tests tagged
// [cuda]; if nothing else is, the run ends with 77 (skipped).
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Listener = Catch::EventListenerBase;
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
using Listener = Catch::TestEventListenerBase;
#endif

namespace {

// How many tests ran.
struct Count : Listener {
  using Listener::Listener;
  void testCaseStarting(const Catch::TestCaseInfo&) override { ++tests; }
  static inline size_t tests = 0;
};
CATCH_REGISTER_LISTENER(Count)

// "a,b" to "~[cuda]a,~[cuda]b": commas separate what may run, a backslash makes them part of a name.
std::string without_gpu_tests(const std::string& filter) {
  const std::string exclusion = "~[cuda]";
  std::string out = exclusion;
  for (size_t i = 0; i < filter.size(); ++i) {
    out += filter[i];
    if (filter[i] == ',' && (i == 0 || filter[i - 1] != '\\')) out += exclusion;
  }
  return out;
}

size_t selected_tests(Catch::Session& session, const Catch::ConfigData& data) {
  session.useConfigData(data);
  const Catch::Config& config = session.config();
  return Catch::filterTests(Catch::getAllTestCasesSorted(config), config.testSpec(), config).size();
}

int run_without_gpu(Catch::Session& session) {
  const Catch::ConfigData all = session.configData();
  Catch::ConfigData few = all;
  if (few.testsOrTags.empty()) few.testsOrTags.push_back("");
  for (std::string& filter : few.testsOrTags) filter = without_gpu_tests(filter);
  session.useConfigData(few);
  const int status = session.run();
  const size_t skipped = selected_tests(session, all) - selected_tests(session, few);
  if (skipped > 0) std::cout << "skipped: " << skipped << " tests that need a GPU: no NVIDIA driver here\n";
  return skipped > 0 && Count::tests == 0 ? 77 : status;
}

}  // namespace

int main(int argc, char** argv) {
  Catch::Session session;
  if (const int error = session.applyCommandLine(argc, argv)) return error;
  const Catch::ConfigData& asked = session.configData();
  const bool runs = !asked.listTests && !asked.listTags && !asked.showHelp;
  if (!runs || std::filesystem::exists("/dev/nvidiactl")) return session.run();
  return run_without_gpu(session);
}
