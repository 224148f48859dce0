// Messages of the operator argument checks.
#include "ops/check_tensor.h"

#include <sstream>
#include <string>

#include "core/check.h"

namespace transxssm::ops {
namespace {

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream out;
  out << '[';
  for (size_t i = 0; i < shape.size(); ++i) {
    out << (i ? ", " : "");
    shape[i] < 0 ? out << "any" : out << shape[i];
  }
  out << ']';
  return out.str();
}

bool fits(at::IntArrayRef actual, at::IntArrayRef expected) {
  if (actual.size() != expected.size()) return false;
  for (size_t i = 0; i < actual.size(); ++i)
    if (expected[i] >= 0 && actual[i] != expected[i]) return false;
  return true;
}

}  // namespace

void expect_shape(const char* what, const at::Tensor& tensor, at::IntArrayRef shape,
                  std::source_location where) {
  if (!tensor.defined())
    expect(false, concat(what, ": expected ", shape_text(shape), ", got no tensor"), where);
  if (!fits(tensor.sizes(), shape))
    expect(false, concat(what, ": expected ", shape_text(shape), ", got ", shape_text(tensor.sizes())),
           where);
}

void expect_dtype(const char* what, const at::Tensor& tensor, at::ScalarType dtype,
                  std::source_location where) {
  if (tensor.scalar_type() != dtype)
    expect(false,
           concat(what, ": expected ", c10::toString(dtype), ", got ", c10::toString(tensor.scalar_type())),
           where);
}

void expect_device(const char* what, const at::Tensor& tensor, at::Device device,
                   std::source_location where) {
  if (tensor.device() != device)
    expect(false, concat(what, ": expected device ", device.str(), ", got ", tensor.device().str()), where);
}

void expect_contiguous(const char* what, const at::Tensor& tensor, std::source_location where) {
  if (!tensor.is_contiguous())
    expect(false, concat(what, ": expected contiguous, got strides ", tensor.strides()), where);
}

bool is_aligned(const at::Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
}

void expect_aligned(const char* what, const at::Tensor& tensor, std::source_location where) {
  if (!is_aligned(tensor))
    expect(false,
           concat(what, ": expected to begin at a multiple of 16 bytes, got ", tensor.const_data_ptr()),
           where);
}

}  // namespace transxssm::ops
