// The documents of a block: parsing of JSON lines and checks of UTF-8.
#include <algorithm>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/check.h"
#include "data/text_reader.h"
#include "data/utf8.h"

namespace transxssm {
namespace {

using nlohmann::json;
using Visit = std::function<void(const TextDocument&)>;

// Takes the string under one key of the outermost object without building the rest of it.
class FieldHandler : public json::json_sax_t {
 public:
  explicit FieldHandler(const std::string& field) : field_(field) {}

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary data"); }
  bool string(string_t& text) override {
    if (wanted_ && depth_ == 1) {
      text_ = std::move(text);
      found_ = true;
      wrong_kind_ = nullptr;
    }
    return value(nullptr);
  }
  bool start_object(size_t) override {
    if (depth_ == 0) outermost_is_object_ = true;
    return start("an object");
  }
  bool start_array(size_t) override { return start("a list"); }
  bool end_object() override { return end(); }
  bool end_array() override { return end(); }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    wanted_ = name == field_;
    if (!wanted_ && keys_.size() < 200) keys_ += (keys_.empty() ? "" : ", ") + name;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    error_position_ = position;
    return false;
  }

  // The error after a parse that failed or did not find the field; empty when all is well.
  std::string error(bool parsed, std::string_view line) const {
    if (!parsed) {
      const size_t invalid = find_invalid_utf8(line);
      if (invalid != std::string_view::npos)
        return concat("invalid UTF-8 at byte ", invalid + 1, " of the line");
      return concat("not valid JSON at byte ", std::max<size_t>(error_position_, 1), " of the line");
    }
    if (!outermost_is_object_) return "not a JSON object; each line must be one, with the text in a field";
    if (wrong_kind_ != nullptr) return concat("field \"", field_, "\" is ", wrong_kind_, ", not a string");
    if (found_) return {};
    return concat("no field \"", field_, "\"; the line has ", keys_.empty() ? "no other" : keys_,
                  " (choose with --text-field)");
  }
  const std::string& text() const { return text_; }

 private:
  bool value(const char* kind) {
    if (wanted_ && depth_ == 1) {
      if (kind != nullptr) wrong_kind_ = kind;
      wanted_ = false;
    }
    return true;
  }
  bool start(const char* kind) {
    value(kind);
    ++depth_;
    return true;
  }
  bool end() {
    --depth_;
    return true;
  }

  const std::string& field_;
  int depth_ = 0;
  bool wanted_ = false;
  bool found_ = false;
  bool outermost_is_object_ = false;
  const char* wrong_kind_ = nullptr;
  size_t error_position_ = 0;
  std::string keys_;
  std::string text_;
};

// A document that is too long goes out in parts.
void visit_in_parts(std::string_view text, TextDocument document, const Visit& visit) {
  do {
    const size_t length = cut_position(text, kMaxDocumentBytes);
    document.text = text.substr(0, length);
    visit(document);
    document.continued = true;
    text.remove_prefix(length);
  } while (!text.empty());
}

void visit_line(std::string_view line, int64_t number, const std::string& field, const Visit& visit) {
  FieldHandler handler(field);
  const bool parsed = json::sax_parse(line.begin(), line.end(), &handler);
  TextDocument document;
  document.line = number;
  document.error = handler.error(parsed, line);
  if (document.error.empty()) {
    visit_in_parts(handler.text(), document, visit);
  } else {
    visit(document);
  }
}

void visit_lines(const TextBlock& block, const std::string& field, const Visit& visit) {
  std::string_view rest = block.bytes;
  for (int64_t number = block.first_line; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) visit_line(line, number, field, visit);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

void visit_text(const TextBlock& block, const Visit& visit) {
  TextDocument document;
  document.line = block.first_line;
  document.continued = block.continued;
  const size_t invalid = find_invalid_utf8(block.bytes);
  if (invalid == std::string_view::npos) {
    document.text = block.bytes;
  } else {
    const auto start = block.bytes.begin();
    document.line += std::count(start, start + static_cast<std::ptrdiff_t>(invalid), '\n');
    document.error = concat("invalid UTF-8 (byte 0x", std::hex,
                            static_cast<int>(static_cast<unsigned char>(block.bytes[invalid])),
                            "); the text must be UTF-8");
  }
  visit(document);
}

}  // namespace

void for_each_document(const TextBlock& block, const std::string& text_field, const Visit& visit) {
  if (block.error) {
    TextDocument document;
    document.line = block.first_line;
    document.error = *block.error;
    visit(document);
  } else if (block.format == TextFormat::jsonl) {
    visit_lines(block, text_field, visit);
  } else {
    visit_text(block, visit);
  }
}

}  // namespace transxssm
