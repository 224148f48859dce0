// What exceptions mean to a user: which ones say that memory ran out, and what they say.
#pragma once

#include <exception>
#include <optional>
#include <string>

namespace transxssm {

// Which allocation failed, in LibTorch or outside it; nothing for other errors.
std::optional<std::string> out_of_memory(const std::exception& error);

// What an exception says to a user: LibTorch's without their backtrace, places in the source from the
// repository's root on.
std::string message_of(const std::exception& error);

}  // namespace transxssm
