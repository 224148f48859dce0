// The time of day as files of a run show it.
#pragma once

#include <ctime>
#include <string>

namespace transxssm {

// UTC, ISO 8601 with seconds: 2026-01-31T23:59:59Z.
inline std::string utc_time(std::time_t time = std::time(nullptr)) {
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace transxssm
