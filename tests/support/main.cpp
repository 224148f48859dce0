// main of every test binary. Runs that select *_cuda.cpp files end with 77 (skipped) where there is no GPU.
#include <cstring>
#include <filesystem>
#include <iostream>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

int main(int argc, char** argv) {
  const bool wants_gpu = argc > 1 && std::strstr(argv[argc - 1], "_cuda]") != nullptr;
  if (wants_gpu && !std::filesystem::exists("/dev/nvidiactl")) {
    std::cout << "skipped: no NVIDIA driver on this machine\n";
    return 77;
  }
  return Catch::Session().run(argc, argv);
}
