// Documents by length, for calls of cuDNN that each take those of one class.
#pragma once

#include <algorithm>

#include "csrc_cuda/attention/params.h"

namespace transxssm::kernels {

// Documents of `shorter` + 1 to `longest` tokens.
struct DocumentClass {
  int64_t shorter, longest;
  int64_t capacity;    // no batch has more of them
  int64_t first_word;  // of its table
};

// A table, for a class of capacity C: offsets of the documents' first values in tensors whose rows hold the
// packed columns, H·P, G·P and H values, [4, C + 1]; lengths in tokens, [C], in C + 1 words.
// Documents stand in their order; entries that remain are empty documents at the end.
inline constexpr int kTableRows = 5;
inline int64_t table_words(const DocumentClass& c) { return kTableRows * (c.capacity + 1); }

inline constexpr int kMostDocumentClasses = 8;

struct DocumentClasses {
  DocumentClass of[kMostDocumentClasses];  // device code reads it: no std::array
  int count;
};

// One class, but for the backward pass: its workspace is capacity · longest² and would not fit with short
// documents in the company of long ones. There each class is half as long as the one before, and a row holds
// few of the long.
inline DocumentClasses document_classes(const AttentionShape& s, AttentionPass pass) {
  constexpr int64_t kShort = 512;
  const bool by_length = pass == AttentionPass::backward;
  DocumentClasses classes{};
  int64_t longest = s.tokens, word = 0;
  for (bool last = false; !last; longest = (longest + 1) / 2) {
    last = !by_length || longest <= kShort || s.documents == s.batch ||
           classes.count + 1 == kMostDocumentClasses;
    DocumentClass c{last ? 0 : (longest + 1) / 2, longest, s.documents, word};
    c.capacity = std::min(c.capacity, s.batch * (s.tokens / (c.shorter + 1)));
    word += table_words(c);
    classes.of[classes.count++] = c;
  }
  return classes;
}

}  // namespace transxssm::kernels
