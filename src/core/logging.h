// Console messages with time and level on stderr, and the run folder's log file. Standard output is left
// to what a command prints as its result.
#pragma once

#include <filesystem>
#include <string>

namespace transxssm {

void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);

// From here on only errors are written: several ranks say nothing twice.
void log_errors_only();

// From here on every message is also appended to `file`. Throws InputError when it can't be opened.
void log_to_file(const std::filesystem::path& file);

}  // namespace transxssm
