// How the ranks of a run find each other: a key-value store that one process serves over TCP. Only for files
// of this folder.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "parallel/rank_environment.h"

namespace transxssm {

// A rank's view of the store in which its run's ranks have met.
class Rendezvous {
 public:
  Rendezvous(const RankEnvironment& environment, std::chrono::milliseconds timeout);
  // The rank that serves the store stays until the others have left.
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  int rank() const { return environment_.rank; }
  int size() const { return environment_.size; }
  const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }
  const std::vector<std::string>& hosts() const { return hosts_; }  // by rank
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }

  // Every rank's text, by rank.
  std::vector<std::string> exchange(const std::string& mine);
  // The same for the first rank; others go on at once.
  std::vector<std::string> gather(const std::string& mine);

 private:
  // Ranks that had not set their key of `topic` when the time was over.
  std::string missing(const std::string& topic) const;
  // The texts of a topic, once all ranks have set theirs.
  std::vector<std::string> texts_of(const std::string& topic);

  RankEnvironment environment_;
  std::chrono::milliseconds timeout_;
  c10::intrusive_ptr<c10d::Store> store_;
  std::vector<std::string> hosts_;
  int64_t exchanges_ = 0;
  int64_t gathers_ = 0;
};

}  // namespace transxssm
