#include "optim/init.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/accumulate.h>

#include "core/hash.h"
#include "core/rng.h"

namespace transxssm {
namespace {

constexpr int64_t kWordsPerBlock = 4;                   // of Philox
constexpr double kBelowMinus3 = 0.0013498980316300945;  // Φ(−3), the tail that truncation cuts from each side

// Φ⁻¹(1/2 + q) for |q| ≤ 1/2 − Φ(−3). M. J. Wichura, "Algorithm AS 241", Applied Statistics 37 (1988),
// routine PPND7 without its far tail. Largest relative error in this range 1.2e-7, that of the f32 which the
// result becomes.
double inverse_normal(double q) {
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179) /
           (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1);
  }
  const double r = std::sqrt(-std::log(0.5 - std::abs(q))) - 1.6;
  const double z = (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777) /
                   ((0.12021132975 * r + 0.73700164250) * r + 1);
  return std::copysign(z, q);
}

// N(0, std²) truncated at 3 std: one 32-bit word an element, symmetric about 0.
void fill_normal(double std, const Philox& rng, int64_t first, std::span<float> out) {
  constexpr double kScale = (1 - 2 * kBelowMinus3) * 0x1.0p-32;
  for (size_t i = 0; i < out.size(); i += kWordsPerBlock) {
    const auto words = rng.block((static_cast<uint64_t>(first) + i) / kWordsPerBlock);
    const size_t count = std::min<size_t>(kWordsPerBlock, out.size() - i);
    for (size_t k = 0; k < count; ++k) {
      const double centred = static_cast<double>(static_cast<int32_t>(words[k])) + 0.5;
      out[i + k] = static_cast<float>(std * inverse_normal(centred * kScale));
    }
  }
}

// The kinds that are functions of one uniform u in (0, 1).
double from_uniform(const Init& init, double u) {
  switch (init.kind) {
    case Init::Kind::uniform:
      return init.a + (init.b - init.a) * u;
    case Init::Kind::log_uniform:
      return std::log(init.a + (init.b - init.a) * u);
    case Init::Kind::inv_softplus: {
      const double delta = std::exp(std::log(init.a) + (std::log(init.b) - std::log(init.a)) * u);
      return delta + std::log(-std::expm1(-delta));
    }
    default:
      throw std::logic_error("not a function of one uniform number");
  }
}

}  // namespace

void initial_values(const Init& init, const std::string& name, uint64_t seed, int64_t first,
                    std::span<float> out) {
  expect(first % kWordsPerBlock == 0, concat("initial values of ", name, " must start at a multiple of 4"));
  if (init.kind == Init::Kind::constant) {
    std::fill(out.begin(), out.end(), static_cast<float>(init.a));
    return;
  }
  const Philox rng(hash_name(name, seed));
  if (init.kind == Init::Kind::normal) {
    fill_normal(init.a, rng, first, out);
    return;
  }
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(from_uniform(init, rng.uniform(static_cast<uint64_t>(first) + i)));
}

void initialize(FlatParameters& parameters, uint64_t seed) {
  constexpr int64_t kChunk = 1 << 22;  // elements drawn on the CPU before they go to the device
  constexpr int64_t kGrainBlocks = 1 << 12;
  const at::Tensor chunk = at::empty({kChunk}, at::TensorOptions(at::kFloat));
  float* values = chunk.mutable_data_ptr<float>();
  for (const LogicalView& tensor : parameters.logical()) {
    const int64_t size = c10::multiply_integers(tensor.shape);
    for (int64_t first = 0; first < size; first += kChunk) {
      const int64_t count = std::min(kChunk, size - first);
      const int64_t blocks = (count + kWordsPerBlock - 1) / kWordsPerBlock;
      at::parallel_for(0, blocks, kGrainBlocks, [&](int64_t begin, int64_t end) {
        const int64_t from = begin * kWordsPerBlock;
        const int64_t to = std::min(count, end * kWordsPerBlock);
        initial_values(tensor.init, tensor.name, seed, first + from,
                       {values + from, static_cast<size_t>(to - from)});
      });
      parameters.write(tensor, StatePart::weight, chunk.narrow(0, 0, count), first);
    }
  }
}

}  // namespace transxssm
