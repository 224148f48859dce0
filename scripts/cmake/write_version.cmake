# Writes HEADER (core/version.h) for Version.cmake; run by `cmake -P` at build time.
execute_process(
  COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${HEADER} @ONLY CONTENT [[
// What this build was made from. Written by scripts/cmake/write_version.cmake.
#pragma once

namespace transxssm {

inline constexpr const char* kVersion = "@VERSION@";
inline constexpr const char* kCommit = "@commit@";
inline constexpr const char* kTorchVersion = "@TORCH@";
inline constexpr const char* kCudaVersion = "@CUDA@";
inline constexpr const char* kCudnnVersion = "@CUDNN@";
inline constexpr const char* kNcclVersion = "@NCCL@";

}  // namespace transxssm
]])
