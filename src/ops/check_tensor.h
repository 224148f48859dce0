// Checks of operator arguments whose messages give expected and actual values. A failure is a bug of the
// caller.
#pragma once

#include <source_location>

#include <ATen/core/Tensor.h>

namespace transxssm::ops {

// Throws "<what>: expected [768], got [512]". −1 in `shape` fits any size and prints as "any".
void expect_shape(const char* what, const at::Tensor& tensor, at::IntArrayRef shape,
                  std::source_location where = std::source_location::current());

// Throws "<what>: expected Float, got BFloat16".
void expect_dtype(const char* what, const at::Tensor& tensor, at::ScalarType dtype,
                  std::source_location where = std::source_location::current());

// Throws "<what>: expected device cuda:0, got cpu".
void expect_device(const char* what, const at::Tensor& tensor, at::Device device,
                   std::source_location where = std::source_location::current());

// Throws "<what>: expected contiguous, got strides [1, 64]".
void expect_contiguous(const char* what, const at::Tensor& tensor,
                       std::source_location where = std::source_location::current());

// For kernels that read 16 bytes at a time.
bool is_aligned(const at::Tensor& tensor);

// Throws "<what>: expected to begin at a multiple of 16 bytes, got 0x…".
void expect_aligned(const char* what, const at::Tensor& tensor,
                    std::source_location where = std::source_location::current());

}  // namespace transxssm::ops
