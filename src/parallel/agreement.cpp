#include "parallel/agreement.h"

#include "core/check.h"

namespace transxssm {
namespace {

// How the first rank's messages begin.
constexpr char kQuestion = '?', kResult = '+', kError = '-';

}  // namespace

void agreed(const Mesh& mesh, const std::function<void()>& work) {
  std::string complaint;
  try {
    work();
  } catch (const InputError& error) {
    if (mesh.size() == 1) throw;
    complaint = error.what();
  }
  if (mesh.size() > 1) mesh.agree(complaint);
}

std::string on_first(const Mesh& mesh, const std::function<std::string()>& work) {
  return on_first_with_help(
      mesh, [&](const Ask&) { return work(); }, [](const std::string&) { return std::string(); });
}

std::string on_first_with_help(const Mesh& mesh, const std::function<std::string(const Ask&)>& work,
                               const Answer& answer) {
  if (mesh.size() == 1)
    return work([&](const std::string& question) { return std::vector{answer(question)}; });
  std::string told;
  if (mesh.is_first()) {
    const Ask ask = [&](const std::string& question) {
      mesh.exchange(kQuestion + question);
      return mesh.exchange(answer(question));
    };
    try {
      told = kResult + work(ask);
    } catch (const InputError& error) {
      told = concat(kError, error.what());
    }
  }
  for (;;) {
    const std::string said = mesh.exchange(told)[0];
    if (said[0] == kError) throw InputError(said.substr(1));
    if (said[0] == kResult) return said.substr(1);
    mesh.exchange(answer(said.substr(1)));
  }
}

}  // namespace transxssm
