// Which files the --input arguments stand for.
#include <algorithm>
#include <array>
#include <set>

#include <glob.h>

#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "data/text_reader.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

// The ending that says what is in a file, below that of its compression.
std::string content_ending(const fs::path& path) {
  fs::path name = path.filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  return name.extension().string();
}

bool is_one_of(const std::string& ending, std::initializer_list<const char*> endings) {
  return std::find(endings.begin(), endings.end(), ending) != endings.end();
}

bool is_jsonl(const fs::path& path) {
  return is_one_of(content_ending(path), {".jsonl", ".ndjson", ".json"});
}
bool is_text(const fs::path& path) { return is_one_of(content_ending(path), {".txt", ".text", ".md"}); }

class Finder {
 public:
  explicit Finder(TextFormat format) : format_(format) {}

  void add(const std::string& input) {
    std::error_code error;
    if (input == "-") {
      add_standard_input();
    } else if (fs::is_directory(input, error)) {
      add_folder(input);
    } else if (fs::exists(input, error)) {
      add_file(input);
    } else {
      add_glob(input);
    }
  }

  std::vector<TextSource> take() { return std::move(sources_); }

 private:
  void add_standard_input() {
    if (seen_.insert("-").second) sources_.push_back({"-", "standard input", format_, 0});
  }

  void add_file(const fs::path& path) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    if (!seen_.insert(error ? path.string() : real.string()).second) return;
    const uint64_t bytes = fs::is_regular_file(path, error) ? fs::file_size(path, error) : 0;
    TextFormat format = format_;
    if (format == TextFormat::automatic) format = is_jsonl(path) ? TextFormat::jsonl : TextFormat::text;
    sources_.push_back({path, path.string(), format, error ? 0 : bytes});
  }

  void add_folder(const fs::path& folder) {
    std::vector<fs::path> files;
    int64_t others = 0;
    std::error_code error;
    fs::recursive_directory_iterator entries(folder, error);
    for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
      const bool hidden = entries->path().filename().string().front() == '.';
      if (hidden && entries->is_directory()) entries.disable_recursion_pending();
      if (hidden || !entries->is_regular_file()) continue;
      const bool known =
          format_ != TextFormat::automatic || is_jsonl(entries->path()) || is_text(entries->path());
      if (known) files.push_back(entries->path());
      others += known ? 0 : 1;
    }
    expect_input(!error, concat(folder.string(), ": cannot be read: ", error.message()));
    expect_input(!files.empty(),
                 concat(folder.string(),
                        ": holds no text (files ending in .txt, .text, .md, .jsonl, .ndjson or .json, "
                        "plain or with .gz or .zst; with --format text or jsonl: any file)"));
    if (others > 0)
      log_info(concat(folder.string(), ": ", "left out ", counted(others, "file"), " of other kinds"));
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) add_file(file);
  }

  void add_glob(const std::string& pattern) {
    glob_t found{};
    std::vector<std::string> matches;
    if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
      matches.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    }
    ::globfree(&found);
    expect_input(!matches.empty(),
                 concat(pattern, ": no such file or folder, and as a pattern it matches nothing"));
    for (const std::string& match : matches) {
      if (fs::is_directory(match)) {
        add_folder(match);
      } else {
        add_file(match);
      }
    }
  }

  TextFormat format_;
  std::set<std::string> seen_;
  std::vector<TextSource> sources_;
};

}  // namespace

TextFormat parse_text_format(const std::string& name) {
  if (name == "auto") return TextFormat::automatic;
  if (name == "text") return TextFormat::text;
  if (name == "jsonl") return TextFormat::jsonl;
  throw InputError(concat("format '", name, "' is not known; valid are auto, text and jsonl"));
}

std::vector<TextSource> find_text_sources(const std::vector<std::string>& inputs, TextFormat format) {
  expect_input(!inputs.empty(), "no input given: name files, folders or patterns, or - for standard input");
  Finder finder(format);
  for (const std::string& input : inputs) finder.add(input);
  return finder.take();
}

std::string names_of(const std::vector<TextSource>& sources) {
  constexpr size_t kShown = 3;
  std::string names;
  for (size_t i = 0; i < std::min(sources.size(), kShown); ++i)
    names += (i > 0 ? ", " : "") + sources[i].name;
  return sources.size() > kShown ? concat(names, " and ", sources.size() - kShown, " more") : names;
}

}  // namespace transxssm
