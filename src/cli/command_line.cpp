#include "cli/command_line.h"

#include <vector>

#include "core/check.h"
#include "core/nearest.h"

namespace transxssm {
namespace {

using Words = std::vector<std::string>;

std::string list(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

Words commands_of(const CLI::App& command) {
  Words names;
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

// "--tokenizer", both names of one that has two, "path" of a positional one.
Words options_of(const CLI::App& command) {
  Words names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    if (option->get_positional()) names.push_back(option->get_name(/*positional=*/true));
  }
  return names;
}

std::string unknown(const CLI::App& command, const std::string& word) {
  const bool is_option = word.starts_with("-");
  const bool has_commands = !commands_of(command).empty();
  const Words valid = is_option || !has_commands ? options_of(command) : commands_of(command);
  const std::string kind = is_option ? "option" : has_commands ? "command" : "argument";
  const std::string meant = nearest(word.substr(0, word.find('=')), valid);
  return concat("unknown ", kind, " ", word, ".", meant.empty() ? "" : " Did you mean " + meant + "?",
                " Valid are ", list(valid));
}

}  // namespace

std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  std::string path = "transxssm";
  const CLI::App* command = &app;
  for (;;) {
    const Words unread = command->remaining();
    if (!unread.empty()) return concat(path, ": ", unknown(*command, unread.front()));
    const auto parsed = command->get_subcommands();
    if (parsed.empty()) break;
    command = parsed.front();
    path += " " + command->get_name();
  }
  if (const Words commands = commands_of(*command); !commands.empty())
    return concat(path, ": needs a command. Valid are ", list(commands));
  return concat(path, ": ", error.what(), " (", path, " --help says more)");
}

}  // namespace transxssm
