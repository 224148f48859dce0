// A random sample of text of bounded size, the same on every run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/rng.h"

namespace transxssm {

// Passages (documents, long ones in stretches of kPassageBytes) get a random key each, a function of seed and
// number; those with the smallest keys are kept, as many as fit. So every passage has the same chance however
// many follow.
class TextSample {
 public:
  static constexpr size_t kPassageBytes = size_t{64} << 10;

  TextSample(uint64_t seed, int64_t max_bytes) : random_(seed), max_bytes_(max_bytes) {}

  void add(std::string_view document);
  std::vector<std::string> take();  // in the order of the input
  int64_t bytes() const { return bytes_; }

 private:
  struct Passage {
    uint64_t key = 0;
    int64_t number = 0;
    std::string text;
    bool operator<(const Passage& other) const { return key < other.key; }
  };
  void add_passage(std::string_view text);

  Philox random_;
  int64_t max_bytes_;
  int64_t bytes_ = 0;
  int64_t passages_ = 0;
  uint64_t limit_ = UINT64_MAX;  // keys from here on have no room
  std::vector<Passage> heap_;    // the largest key on top
};

}  // namespace transxssm
