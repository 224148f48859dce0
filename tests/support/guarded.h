// Outputs between two margins: a kernel that writes past an end is found out.
#pragma once

#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

namespace transxssm {

class Guarded {
 public:
  // `margin`: values on either side, a multiple of 64, which keeps the alignment of what lies between.
  explicit Guarded(int64_t margin = 64) : margin_(margin) {}

  // A tensor for a kernel to fill; its margins hold a number that no kernel writes.
  at::Tensor make(at::IntArrayRef shape, const at::TensorOptions& options) {
    const int64_t n = c10::multiply_integers(shape);
    whole_.push_back(at::full({n + 2 * margin_}, kMark, options));
    return whole_.back().narrow(0, margin_, n).view(shape);
  }

  // Of a tensor that make() made: no value is still the one that it began with.
  static bool all_written(const at::Tensor& x) { return x.ne(kMark).all().item<bool>(); }
  static bool untouched(const at::Tensor& x) { return x.eq(kMark).all().item<bool>(); }

  bool intact() const {
    for (const at::Tensor& t : whole_)
      for (const int64_t begin : {int64_t{0}, t.numel() - margin_})
        if (!untouched(t.narrow(0, begin, margin_))) return false;
    return true;
  }

 private:
  static constexpr double kMark = -12288;
  int64_t margin_;
  std::vector<at::Tensor> whole_;
};

}  // namespace transxssm
