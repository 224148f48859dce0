#include "parallel/rendezvous.h"

#include <cstdlib>
#include <exception>

#include <unistd.h>

#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/check.h"

namespace transxssm {
namespace {

using Milliseconds = std::chrono::milliseconds;

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown host";
}

std::string key_of(const std::string& topic, int rank) { return concat(topic, "/", rank); }

double seconds(Milliseconds time) { return std::chrono::duration<double>(time).count(); }

// c10d logs every broken connection and timeout with a trace of its stack; exceptions say it, too, and those
// of this folder what it means. TORCH_CPP_LOG_LEVEL brings all back.
class QuietC10d {
 public:
  QuietC10d() { set(c10::GLOG_FATAL); }
  ~QuietC10d() { set(c10::GLOG_ERROR); }  // errors of threads that nobody listens to
  QuietC10d(const QuietC10d&) = delete;
  QuietC10d& operator=(const QuietC10d&) = delete;

 private:
  static void set(int level) {
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = level;
  }
};

c10::intrusive_ptr<c10d::Store> open_store(const RankEnvironment& environment, Milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = environment.port;
  options.isServer = environment.hosts_store;
  options.waitWorkers = false;  // the ranks are counted by name below
  options.timeout = timeout;
  const QuietC10d quiet;
  const std::string where = concat(environment.address, ":", environment.port);
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(environment.address, options);
    return c10::make_intrusive<c10d::PrefixStore>(environment.prefix, store);
  } catch (const c10::Error& error) {
    const std::string reason = error.what_without_backtrace();
    if (environment.hosts_store)
      throw InputError(concat("rank ", environment.rank, " can't serve the meeting point of the ranks at ",
                              where, "; is the port taken by another run? Set MASTER_PORT to a free one (",
                              reason, ")"));
    throw InputError(concat("rank ", environment.rank, " can't reach the meeting point of the ranks at ",
                            where, " within ", seconds(timeout),
                            " s; is MASTER_ADDR right, and is rank 0 running there? (", reason, ")"));
  }
}

}  // namespace

Rendezvous::Rendezvous(const RankEnvironment& environment, Milliseconds timeout)
    : environment_(environment), timeout_(timeout), store_(open_store(environment, timeout)) {
  const int64_t claims = store_->add(key_of("claim", rank()), 1);
  expect_input(claims == 1, concat("rank ", rank(), " exists twice at ", environment.address, ":",
                                   environment.port, ": do two runs use one MASTER_PORT?"));
  hosts_ = exchange(host_name());
}

Rendezvous::~Rendezvous() {
  // After a failure nobody waits: the others may be gone, or wait for this rank's end to be noticed.
  if (std::uncaught_exceptions() > 0) return;
  try {
    const QuietC10d quiet;
    store_->set(key_of("left", rank()), "");
    if (!environment_.hosts_store) return;
    std::vector<std::string> keys;
    for (int other = 0; other < size(); ++other) keys.push_back(key_of("left", other));
    store_->wait(keys, std::min(timeout_, Milliseconds(10'000)));
  } catch (const std::exception&) {  // a rank that failed does not say that it leaves
  }
}

std::string Rendezvous::missing(const std::string& topic) const {
  std::string ranks;
  int count = 0;
  for (int other = 0; other < size(); ++other) {
    if (store_->check({key_of(topic, other)})) continue;
    ranks += concat(ranks.empty() ? "" : ", ", other);
    if (!hosts_.empty()) ranks += concat(" on ", hosts_[static_cast<size_t>(other)]);
    ++count;
  }
  return concat(count == 1 ? "rank " : "ranks ", ranks);
}

std::vector<std::string> Rendezvous::texts_of(const std::string& topic) {
  std::vector<std::string> keys;
  for (int other = 0; other < size(); ++other) keys.push_back(key_of(topic, other));
  try {
    const QuietC10d quiet;
    store_->wait(keys, timeout_);
  } catch (const std::exception& error) {
    const std::string who = missing(topic);
    const std::string waited = concat(" within ", seconds(timeout_), " s");
    if (hosts_.empty()) throw InputError(concat(who, " of ", size(), " did not start", waited));
    throw std::runtime_error(concat(who, " did not answer", waited, " (", topic, ")"));
  }
  std::vector<std::string> texts;
  for (const auto& text : store_->multiGet(keys)) texts.emplace_back(text.begin(), text.end());
  return texts;
}

std::vector<std::string> Rendezvous::gather(const std::string& mine) {
  const auto topic = [](int64_t number) { return concat("gather/", number); };
  store_->set(key_of(topic(gathers_), rank()), mine);
  // By then the first rank has read it: nobody is two calls ahead.
  if (gathers_ >= 2) store_->deleteKey(key_of(topic(gathers_ - 2), rank()));
  const int64_t number = gathers_++;
  return rank() == 0 ? texts_of(topic(number)) : std::vector<std::string>();
}

std::vector<std::string> Rendezvous::exchange(const std::string& mine) {
  const std::string topic = concat("exchange/", exchanges_);
  store_->set(key_of(topic, rank()), mine);
  auto texts = texts_of(topic);
  // All ranks are here, so all have read what was exchanged before.
  if (exchanges_ > 0) store_->deleteKey(key_of(concat("exchange/", exchanges_ - 1), rank()));
  ++exchanges_;
  return texts;
}

}  // namespace transxssm
