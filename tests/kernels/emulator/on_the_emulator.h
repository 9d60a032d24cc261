#pragma once
// What the emulator's tests run kernels on and beside.
#include <thread>
#include <vector>

#include "device_language.h"

namespace pleat::cuda {

// Memory of the emulated device.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)), "cudaMalloc");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + count_); }

 private:
  T* data_ = nullptr;
  size_t count_;
};

// A rank's kernel that waits for another rank.
__global__ inline void wait_for_word(const unsigned* word, unsigned* running) {
  store_release(running, 1);
  while (load_acquire(word) == 0) __nanosleep(20);
}

// `meanwhile` while such a kernel runs on `device`, and then the word that it waits for.
template <class Meanwhile>
void run_beside_a_waiting_kernel(int device, Meanwhile meanwhile) {
  DeviceArray<unsigned> words(2);
  words[0] = words[1] = 0;
  std::thread peer([&] {
    check(cudaSetDevice(device), "cudaSetDevice");
    launch(wait_for_word, {1, 1}, words.data(), words.data() + 1);
  });
  while (load_acquire(words.data() + 1) == 0) std::this_thread::yield();
  meanwhile(words.data());
  store_release(words.data(), 1);
  peer.join();
}

}  // namespace pleat::cuda
