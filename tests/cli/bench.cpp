// What `transxssm bench` refuses: exit code 2, one message that says what would be valid.
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "config/load.h"
#include "support/catch.h"
#include "support/run_program.h"
#include "support/tiny_run.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

void require_refused(const std::string& arguments, const std::string& says) {
  const TempFolder folder;
  const Ended ended = run_program(folder.path(), words("bench " + arguments));
  INFO(arguments << "\nexpected: " << says << "\nstderr: " << ended.err);
  REQUIRE(ended.code == 2);
  REQUIRE(contains(ended.err, says));
  REQUIRE_FALSE(contains(ended.err, "frame #"));
  REQUIRE(ended.out.empty());
}

}  // namespace

TEST_CASE("bench: bad arguments are refused before anything is measured") {
  require_refused("", "transxssm bench: needs a command. Valid are step, ops");
  require_refused("ops", "--op is required");
  require_refused("ops --op attend", "--op");
  require_refused("ops --op attention --shape 8,4096,8", "expected batch,tokens,heads,key heads,width");
  require_refused("ops --op attention --shape 8,4096,8,3,128", "expected key heads that divide the heads");
  require_refused("ops --op attention --shape 8,4096,8,8,96", "width 64 or 128");
  require_refused("ops --op attention --shape 64,65536,8,8,64", "has 2^31 values or more");
  for (const std::string shape :
       {"8,4096", "8,4096,16,1", "8,4096,0", "8,-1,16", "8;4096;16", "8,4096,16x", ","})
    require_refused("ops --op ssd --shape " + shape, "--shape " + shape + ": expected batch,tokens,heads");
  require_refused("ops --op ssd --shape 1024,16777216,8", "has 2^31 tokens or more");
  require_refused("ops --op ssd_step --shape 8,4096,16", "--shape 8,4096,16: expected batch,heads");
  require_refused("ops --op ssd_step --documents", "--documents has no effect on ssd_step");
  require_refused("ops --op ssd_step --groups 1",
                  "--groups, --skip and --no-rope have no effect on ssd_step");
  require_refused("ops --op attention --skip", "--groups, --skip and --no-rope have no effect on attention");
  require_refused("ops --op ssd --groups 3", "--groups 3: does not divide 8 heads");
  require_refused("ops --op swiglu --shape 8", "--shape 8: expected tokens,width");
  require_refused("ops --op cross_entropy --shape 1,-1", "--shape 1,-1: expected rows,vocabulary, positive");
  require_refused("ops --op grad_norm --shape 1,-1", "--shape 1,-1: expected rows,columns, positive");
  require_refused("ops --op adamw --documents", "--documents has no effect on adamw");
  require_refused("ops --op ssd --repeats 0", "--repeats");
  require_refused("ops --op ssd --repeats many", "--repeats");
}

TEST_CASE("bench: a machine without a GPU is told so") {
  if (std::filesystem::exists("/dev/nvidiactl")) return;
  require_refused("ops --op ssd", "an NVIDIA GPU");
  require_refused("ops --op ssd_step --json", "an NVIDIA GPU");
  require_refused("ops --op attention --documents", "an NVIDIA GPU");
}

TEST_CASE("bench step: what it refuses") {
  require_refused("step", "--config is required");
  require_refused("step --config no.yaml", "no.yaml");
  require_refused("stpe", "Did you mean step?");
}

TEST_CASE("bench step: times the step that training takes, on a CPU too, and leaves nothing behind") {
  const TinyRun tiny;
  write(tiny.folder / "run.yaml", to_yaml(tiny.config()));
  const auto before = contents(tiny.folder.path());
  const Ended ended =
      run_program(tiny.folder.path(), words("bench step --config run.yaml --repeats 2 --json"));
  INFO(ended.err);
  REQUIRE(ended.code == 0);
  const auto report = nlohmann::json::parse(ended.out);
  REQUIRE(report.at("tokens") == 2 * 24);
  REQUIRE(report.at("memory_peak_bytes") > 0);
  REQUIRE(report.at("start_up_seconds") > 0);
  REQUIRE(report.at("results").size() == 2);
  REQUIRE(contains(report.at("paths").dump(), "SSD scan: chunked LibTorch (the CPU has no other)"));
  for (const auto& row : report.at("results")) REQUIRE(row.at("tokens_per_second") > 0);
  REQUIRE(changes(before, contents(tiny.folder.path()), {}) == std::vector<std::string>{});
}

TEST_CASE("bench prefill and decode: what they refuse") {
  for (const std::string pass : {"prefill", "decode"}) {
    require_refused(pass, "one of --config and --checkpoint");
    require_refused(pass + " --config no.yaml", "no.yaml");
    require_refused(pass + " --checkpoint none", "none");
    require_refused(pass + " --config no.yaml --context 0", "--context");
  }
}

TEST_CASE("bench prefill and decode: time what generate runs, on a CPU too") {
  const TinyRun tiny;
  write(tiny.folder / "run.yaml", to_yaml(tiny.config()));
  for (const std::string pass : {"prefill", "decode"}) {
    const Ended ended = run_program(
        tiny.folder.path(),
        words("bench " + pass + " --config run.yaml --device cpu --batch 2 --context 20 --repeats 3 --json"));
    INFO(ended.err);
    REQUIRE(ended.code == 0);
    const auto report = nlohmann::json::parse(ended.out);
    REQUIRE(report.at("pass") == pass);
    REQUIRE(report.at("tokens_per_second") > 0);
    REQUIRE(contains(report.at("paths").dump(), "SSD scan: chunked LibTorch (the CPU has no other)"));
    REQUIRE(contains(report.at("paths").dump(), "SSD step: LibTorch (the CPU has no other)") ==
            (pass == "decode"));
    REQUIRE(report.at(pass == "decode" ? "bytes" : "tflops") > 0);
  }
}

TEST_CASE("bench comm: two ranks on the CPU, and what it refuses") {
  require_refused("comm", "say how many with --gpus or --ranks");
  require_refused("comm --ranks 2 --size 0", "--size");
  require_refused("comm --gpus 2 --ranks 2", "excludes");
  const TempFolder folder;
  const Ended ended =
      run_program(folder.path(), words("bench comm --ranks 2 --repeats 2 --size 4099 --json"));
  INFO(ended.err);
  REQUIRE(ended.code == 0);
  const auto report = nlohmann::json::parse(ended.out);
  REQUIRE(report.at("ranks") == 2);
  REQUIRE(report.at("results").size() == 3);
  for (const auto& row : report.at("results")) {
    REQUIRE(row.at("bytes") == 4104);  // two parts of whole elements
    REQUIRE(row.at("ms") > 0);
    REQUIRE(row.at("bus_bytes_per_second") > 0);
  }
}
