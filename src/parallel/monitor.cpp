#include "parallel/monitor.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include <unistd.h>

#include "core/check.h"
#include "core/logging.h"

namespace transxssm {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr const char* kVerdict = "verdict";
constexpr const char* kLeft = "left";  // beat of a rank that ended in order
constexpr const char* kIsDead = " is dead or stands still: it no longer answers";
constexpr int kSilentBeats = 5;  // of a process that is taken for dead

std::string key_of(int rank) { return concat("life/", rank); }

double seconds(Milliseconds time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

Monitor::Monitor(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> hosts,
                 Milliseconds timeout, const CollectiveProgress& progress)
    : store_(std::move(store)),
      rank_(rank),
      hosts_(std::move(hosts)),
      life_timeout_(timeout),
      timeout_(timeout),
      progress_(progress) {
  publish();
  thread_ = std::thread([this] { watch(); });
}

Monitor::~Monitor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  try {
    store_->set(key_of(rank_), kLeft);
  } catch (const std::exception&) {  // the others are gone before
  }
}

void Monitor::on_failure(std::function<void(const std::string&, int)> action) {
  const std::lock_guard lock(mutex_);
  action_ = std::move(action);
}

Milliseconds Monitor::beat() const {
  return std::clamp(timeout_.load() / 20, Milliseconds(20), Milliseconds(1000));
}

void Monitor::publish() {
  const auto seen = progress_.seen();
  store_->set(key_of(rank_), concat(beats_++, " ", seen.started, " ", seen.finished, " ", seen.last));
}

Monitor::Sign Monitor::sign_of(int rank) const {
  if (!store_->check({key_of(rank)})) return {};
  std::istringstream text(store_->get_to_str(key_of(rank)));
  Sign sign;
  text >> sign.beat >> sign.seen.started >> sign.seen.finished >> std::ws;
  std::getline(text, sign.seen.last);
  return sign;
}

std::string Monitor::name_of(int rank) const {
  return concat("rank ", rank, " on ", hosts_[static_cast<size_t>(rank)]);
}

// Which rank the others wait for.
bool Monitor::ends_within(int beats) {
  for (int passed = 0; passed < beats; ++passed) {
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, beat(), [&] { return stopping_; })) return true;
    }
    publish();
  }
  return false;
}

std::string Monitor::silent_rank() {
  const int size = static_cast<int>(hosts_.size());
  std::vector<std::string> beats;
  for (int rank = 0; rank < size; ++rank) beats.push_back(sign_of(rank).beat);
  if (ends_within(kSilentBeats)) return "";
  for (int rank = 0; rank < size; ++rank)
    if (rank != rank_ && sign_of(rank).beat == beats[static_cast<size_t>(rank)])
      return concat(name_of(rank), kIsDead);
  return "";
}

std::string Monitor::blame() {
  const int size = static_cast<int>(hosts_.size());
  const std::string silent = silent_rank();
  if (!silent.empty()) return silent;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return "";
  }
  const uint64_t started = progress_.seen().started;
  std::string behind;
  for (int rank = 0; rank < size; ++rank) {
    if (rank == rank_) continue;
    const Sign sign = sign_of(rank);
    if (behind.empty() && sign.seen.started < started)
      behind =
          concat(name_of(rank), " hangs: it has started ", sign.seen.started, " collectives, the last was ",
                 sign.seen.last, ", and not the one that ", name_of(rank_), " waits in");
  }
  return behind.empty()
             ? "all ranks are there and wait in the same collective: the network between them fails"
             : behind;
}

std::string Monitor::explain(const std::string& failure) {
  return tell(failure, [&] { return blame(); });
}

std::string Monitor::explain_exchange(const std::string& failure) {
  return tell(failure, [&] { return silent_rank(); });
}

std::string Monitor::tell(const std::string& failure, const std::function<std::string()>& find_reason) {
  rests_ = true;  // this thread ends the process in order
  std::string verdict = failure;
  try {
    const std::string reason = find_reason();
    if (!reason.empty()) verdict = concat(reason, " (", failure, ")");
    verdict = propose(verdict).text;
  } catch (const std::exception& error) {
    verdict = concat(
        "the store through which the ranks meet is gone: the process that served it (rank 0, or the "
        "launcher) has ended (",
        failure, ")");
  }
  return verdict;
}

Monitor::Verdict Monitor::parsed(const std::string& stored) { return {stored.at(0) - '0', stored.substr(1)}; }

Monitor::Verdict Monitor::propose(const std::string& text, int exit_code) const {
  return parsed(store_->compareSet(kVerdict, "", concat(exit_code, text)));
}

void Monitor::announce(const std::string& failure, int exit_code) {
  rests_ = true;
  try {
    propose(concat(name_of(rank_), " failed: ", failure), exit_code);
  } catch (const std::exception&) {  // the failure itself is what this rank reports
  }
}

void Monitor::end(const Verdict& verdict, bool is_author) {
  if (rank_ == 0 || is_author) log_error(verdict.text);
  const std::lock_guard lock(mutex_);
  if (action_) action_(verdict.text, verdict.exit_code);
  _exit(verdict.exit_code);
}

std::string Monitor::waiting_verdict(const CollectiveProgress::Seen& seen, Milliseconds waited) {
  const std::string blamed = blame();
  if (blamed.empty()) return "";
  return concat(blamed, "; ", name_of(rank_), " has waited ", seconds(waited), " s in ", seen.last,
                " (collective ", seen.started, ")");
}

bool Monitor::next_is_dead() {
  const int next = (rank_ + 1) % static_cast<int>(hosts_.size());
  if (next == rank_) return false;
  const std::string beat_now = sign_of(next).beat;
  if (beat_now != next_beat_ || beat_now == kLeft) next_heard_ = Clock::now();
  next_beat_ = beat_now;
  return Clock::now() - next_heard_ > std::min(life_timeout_, timeout_.load());
}

void Monitor::watch() {
  auto seen = progress_.seen();
  auto since = Clock::now();
  for (;;) {
    Verdict verdict;
    bool is_author = false;
    try {
      if (ends_within(1)) return;
      const auto now = progress_.seen();
      if (now != seen || now.started == now.finished) {
        seen = now;
        since = Clock::now();
      }
      const auto waited = std::chrono::duration_cast<Milliseconds>(Clock::now() - since);
      if (store_->check({kVerdict})) {
        verdict = parsed(store_->get_to_str(kVerdict));
        if (ends_within(kSilentBeats)) return;  // it was about to fail in its own words
      } else if (waited > timeout_.load() - (kSilentBeats + 1) * beat()) {
        const std::string own = waiting_verdict(seen, timeout_.load());
        if (!own.empty()) verdict = propose(own);
        is_author = verdict.text == own;
      } else if (next_is_dead()) {
        const std::string own = concat(name_of((rank_ + 1) % static_cast<int>(hosts_.size())), kIsDead);
        verdict = propose(own);
        is_author = verdict.text == own;
      }
    } catch (const std::exception&) {
      verdict.text = concat(name_of(rank_),
                            " lost the store through which the ranks meet: the process that served it "
                            "(rank 0, or the launcher) has ended");
      is_author = true;
    }
    if (!verdict.text.empty() && !rests_) end(verdict, is_author);
  }
}

}  // namespace transxssm
