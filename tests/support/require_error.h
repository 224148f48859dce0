// Tests of error messages, alike in Catch2 2 and 3 (whose string matchers have different names).
#pragma once

#include <exception>
#include <string>

#include "support/catch.h"

namespace transxssm {

// `f` throws an exception whose message contains `text`.
template <class F>
void require_error(F&& f, const std::string& text) {
  std::string message = "(nothing was thrown)";
  try {
    f();
  } catch (const std::exception& error) {
    message = error.what();
  }
  INFO("expected: " << text << "\ngot: " << message);
  REQUIRE(message.find(text) != std::string::npos);
}

}  // namespace transxssm
