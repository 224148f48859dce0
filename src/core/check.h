// Exceptions and checks. Only main ends the process; everything below it throws.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace transxssm {

// The user's input is at fault (file, key, flag, data): reported as one message, exit code 2.
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Joins its arguments as operator<< prints them.
template <class... Args>
std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

// A broken promise inside the program (a bug or a failed system call): exit code 1.
inline void expect(bool condition, const std::string& message,
                   std::source_location where = std::source_location::current()) {
  if (!condition) throw std::runtime_error(concat(message, " (", where.file_name(), ":", where.line(), ")"));
}

// Bad input: `message` says what, where and what would be valid.
inline void expect_input(bool condition, const std::string& message) {
  if (!condition) throw InputError(message);
}

}  // namespace transxssm
