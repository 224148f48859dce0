#include "generate/run_batch.h"

#include <algorithm>
#include <optional>

namespace transxssm {

const char* name_of(Finish finish) {
  switch (finish) {
    case Finish::eos:
      return "eos";
    case Finish::stop:
      return "stop";
    default:
      return "length";
  }
}

std::vector<Finish> run_batch(Decoder& decoder, const std::vector<RowRequest>& rows, int64_t eos_id,
                              const TokenReceiver& receive) {
  std::vector<DecodeRequest> requests;
  for (const RowRequest& row : rows) requests.push_back(row.decode);
  std::vector<std::optional<Finish>> ends(rows.size());
  int64_t longest = 0;
  for (const RowRequest& row : rows) longest = std::max(longest, row.max_new_tokens);
  size_t running = rows.size();
  decoder.start(requests);
  int64_t queued = 1;
  const auto queue = [&] {
    decoder.step();
    ++queued;
  };
  for (int64_t drawn = 1;; ++drawn) {
    if (decoder.runs_ahead() && queued < longest) queue();
    const std::vector<int64_t> tokens = decoder.tokens();
    for (size_t row = 0; row < rows.size(); ++row) {
      if (ends[row]) continue;
      if (tokens[row] == eos_id)
        ends[row] = Finish::eos;
      else if (!receive(row, tokens[row]))
        ends[row] = Finish::stop;
      else if (drawn == rows[row].max_new_tokens)
        ends[row] = Finish::length;
      running -= ends[row].has_value();
    }
    if (running == 0) break;
    if (queued == drawn) queue();
  }
  std::vector<Finish> finished;
  for (const auto& end : ends) finished.push_back(*end);
  return finished;
}

}  // namespace transxssm
