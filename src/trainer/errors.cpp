#include "trainer/errors.h"

#include <cstdlib>
#include <new>
#include <regex>

#include <c10/util/Exception.h>

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {

std::optional<std::string> out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error)) return "an allocation in the CPU's memory failed";
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  if (torch_error == nullptr) return std::nullopt;
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return torch_error->what_without_backtrace();
  // The allocator of the CPU has no type of exception of its own.
  const std::string& text = torch_error->msg();
  if (text.find("DefaultCPUAllocator") == std::string::npos) return std::nullopt;
  const std::string mark = "tried to allocate ";
  const size_t at = text.find(mark);
  const uint64_t bytes =
      at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + mark.size(), nullptr, 10);
  return concat("an allocation of ", format_bytes(bytes), " in the CPU's memory failed");
}

std::string message_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string message = torch_error ? torch_error->what_without_backtrace() : error.what();
  // Where expect() was called, as the compiler was given the file: shown from the repository's root on.
  static const std::regex place(R"(\([^()]*/((?:src|csrc_cuda)/[^()]*:\d+)\)$)");
  return std::regex_replace(message, place, "($1)");
}

}  // namespace transxssm
