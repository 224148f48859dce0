// docs/config.md: every field with default, valid values and meaning.
#include <optional>

#include "config/load.h"
#include "config/valid_text.h"
#include "config/walk.h"
#include "core/check.h"

namespace transxssm {
namespace {

const char* const kIntroduction = R"(# Configuration

Written by `transxssm config markdown` from the field lists in `src/config`; a test keeps the two equal.

A run is one YAML file, read with `--config FILE`. `transxssm config show --config FILE` prints it complete, as a run
uses and stores it; `transxssm config schema` prints a JSON Schema for editors.

- **Strict.** An unknown or repeated key, a wrong type or a value out of range ends the program with exit code 2 and a
  message that names file, line, key and what is valid. There is no inheritance between files.
- **Values.** Booleans are `true` or `false`. Integers are written in digits (`1000`, not `1e3`); numbers as `0.002`
  or `2e-3`. Text that looks like a number or a boolean needs quotes.
- **Paths.** `${VAR}` is expanded in paths, and a variable that is not set is an error. Relative paths are against the
  working directory.
- **Overrides.** `--set a.b=value` sets one field, with the value in YAML; the last one wins. Lists are replaced whole.
- **Alternatives.** `pattern` or `attention_period` and `attention_offset`, `warmup_steps` or `warmup_ratio`,
  `decay_steps` or `decay_ratio`, `validation` or `split`, `tokenizer` or `eod_id`: one of each, with both an error. An
  override of one takes the place of the file's other.
- **Unused fields.** A field that the chosen variant does not use (such as `rope.factor` with `scaling: none`) keeps
  its default; another value is an error. An override that chooses the variant (`--set schedule.type=cosine`) leaves out
  what the file gives for fields that this variant does not use, and says so.
- **Short runs.** Warm-up and decay that do not fit into `max_steps` are shortened in proportion, with a warning.
- **Resuming.** Fields marked ● change what a resumed run computes and need `--allow-change KEY`; the others change
  freely.
)";

std::string default_text(const Field& field, const std::string& value) {
  if (field.required) return "required";
  return value.empty() ? "none" : concat("`", value, "`");
}
std::string default_text(const Field&, bool value) { return value ? "`true`" : "`false`"; }
std::string default_text(const Field&, int64_t value) { return concat("`", value, "`"); }
std::string default_text(const Field&, uint64_t value) { return concat("`", value, "`"); }
std::string default_text(const Field&, double value) {
  return concat("`", number_text(value, /*point=*/true), "`");
}
std::string default_text(const Field&, const std::optional<double>&) { return "none"; }

template <NamedEnum E>
std::string default_text(const Field&, E value) {
  return concat("`", enum_name(value), "`");
}

template <class T>
std::string default_text(const Field& field, const std::vector<T>& value) {
  if constexpr (std::same_as<T, double>) {
    std::vector<std::string> numbers;
    for (const double x : value) numbers.push_back(number_text(x, /*point=*/true));
    if (!numbers.empty()) return concat("`[", join(numbers), "]`");
  }
  return field.required ? "required" : "none";
}

// Inside a table a bar would end the cell.
std::string cell(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

template <class T>
std::string row(const Field& field, const T& value, Effect effect) {
  const std::string unit = field.unit;
  return concat("| `", field.name, "` | ", default_text(field, value), " | ", cell(valid_text(field, value)),
                unit.empty() ? "" : concat(" (", unit, ")"), " | ", effect == Effect::mathematics ? "●" : "",
                " | ", cell(doc_text(field)), " |\n");
}

template <Section T>
void write_section(const T& section, const std::string& title, const std::string& doc, Effect effect,
                   std::string& out) {
  std::string rows;
  std::string inner;
  const auto own = [&](const Field& field) {
    return field.effect == Effect::inherit ? effect : field.effect;
  };
  visit_fields(section, [&](const Field& field, const auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    const std::string key = join_key(title, field.name);
    if constexpr (Section<Value>) {
      write_section(value, key, field.doc, own(field), inner);
    } else {
      rows += row(field, value, own(field));
      if constexpr (requires { typename Value::value_type; }) {
        using Element = typename Value::value_type;
        if constexpr (Section<Element>)
          write_section(Element{}, key + "[]", "Each entry:", own(field), inner);
      }
    }
  });
  if (!rows.empty()) {
    out += concat("\n## ", title, "\n\n", doc,
                  "\n\n| key | default | valid | ● | meaning |\n|---|---|---|---|---|\n", rows);
  }
  out += inner;
}

}  // namespace

std::string config_markdown() {
  std::string text = kIntroduction;
  write_section(RunConfig{}, "", "", Effect::none, text);
  return text;
}

}  // namespace transxssm
