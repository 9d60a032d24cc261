#pragma once
// A word of the host's memory that kernels and the host both read and write while the other runs.

#include <atomic>

#include "kernels/cuda/device.h"

namespace pleat::cuda {

class HostWord {
 public:
  explicit HostWord(unsigned value = 0) : word_(static_cast<unsigned*>(allocate_on_host(sizeof(unsigned)))) {
    store(value);
  }
  ~HostWord() { release_on_host(word_); }
  HostWord(const HostWord&) = delete;

  // For kernels: store_release() and load_acquire(). Unified addressing: the same address on every device.
  unsigned* on_device() const { return word_; }
  unsigned load() const { return std::atomic_ref(*word_).load(std::memory_order_acquire); }
  void store(unsigned value) { std::atomic_ref(*word_).store(value, std::memory_order_release); }

 private:
  unsigned* word_;
};

}  // namespace pleat::cuda
