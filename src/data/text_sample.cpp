#include "data/text_sample.h"

#include <algorithm>
#include <utility>

#include "data/text_reader.h"

namespace transxssm {

void TextSample::add(std::string_view document) {
  while (!document.empty()) {
    const size_t length = cut_position(document, kPassageBytes);
    add_passage(document.substr(0, length));
    document.remove_prefix(length);
  }
}

void TextSample::add_passage(std::string_view text) {
  const auto words = random_.block(static_cast<uint64_t>(passages_));
  const uint64_t key = (uint64_t{words[0]} << 32) | words[1];
  const auto size = static_cast<int64_t>(text.size());
  const int64_t number = passages_++;
  if (key >= limit_) return;
  heap_.push_back({key, number, std::string(text)});
  std::push_heap(heap_.begin(), heap_.end());
  bytes_ += size;
  while (bytes_ > max_bytes_ && heap_.size() > 1) {
    std::pop_heap(heap_.begin(), heap_.end());
    bytes_ -= static_cast<int64_t>(heap_.back().text.size());
    limit_ = heap_.back().key;
    heap_.pop_back();
  }
}

std::vector<std::string> TextSample::take() {
  std::sort(heap_.begin(), heap_.end(),
            [](const Passage& a, const Passage& b) { return a.number < b.number; });
  std::vector<std::string> texts;
  texts.reserve(heap_.size());
  for (Passage& passage : heap_) texts.push_back(std::move(passage.text));
  heap_.clear();
  return texts;
}

}  // namespace transxssm
