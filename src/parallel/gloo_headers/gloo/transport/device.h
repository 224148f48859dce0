// Stands in for Gloo's header: c10d's holds devices and buffers by pointer (see ../../README.md).
#pragma once

namespace gloo::transport {

class Device;

class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};

}  // namespace gloo::transport
