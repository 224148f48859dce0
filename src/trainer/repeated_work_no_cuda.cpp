// Builds without CUDA have no graphs.
#include "trainer/repeated_work.h"

namespace transxssm {

struct GraphPool::Impl {};
struct RepeatedWork::Graph {};

GraphPool::GraphPool() = default;
GraphPool::~GraphPool() = default;

RepeatedWork::RepeatedWork(GraphPool* pool, Runs runs) : pool_(pool), runs_(runs) {}
RepeatedWork::~RepeatedWork() = default;
RepeatedWork::RepeatedWork(RepeatedWork&&) noexcept = default;

void RepeatedWork::run(const std::function<void()>& work) { work(); }

}  // namespace transxssm
