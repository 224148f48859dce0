// Documents as a corpus has them: lengths log-normal, of median 606 and mean 1366 tokens.
#pragma once

#include <cstdint>
#include <vector>

namespace transxssm::bench {

// Where documents begin in each of `rows` rows of `tokens` tokens, the first of a row at 0; the last of a row
// is cut at its end. Always the same for a seed.
std::vector<std::vector<int64_t>> random_document_starts(int64_t rows, int64_t tokens, uint64_t seed);

// The same as first tokens of documents in all rows together, and the end of the last; one document a row
// without `documents`.
std::vector<int32_t> document_offsets(int64_t rows, int64_t tokens, bool documents);

}  // namespace transxssm::bench
