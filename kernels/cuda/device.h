#pragma once
// What lives on a device: memory, streams and graphs. All throw Error(failed) with what the runtime says.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/check.h"

namespace pleat::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw Error(ErrorKind::failed, concat(what, ": ", cudaGetErrorString(error)));
}

// Empty where a kernel can run, else why not: no driver, no device.
std::string why_no_device();

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "no stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "the device's work failed"); }

 private:
  cudaStream_t stream_ = nullptr;
};

// `count` elements of device memory. Movable, not copyable.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t count) : count_(count) {
    if (count > 0) check(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)), "device memory");
  }
  DeviceArray(std::span<const T> values, const Stream& stream) : DeviceArray(values.size()) {
    copy_from(values, stream);
    stream.wait();
  }
  DeviceArray(DeviceArray&& other) noexcept { *this = std::move(other); }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  size_t size() const { return count_; }

  // values must stay until the stream has come there.
  void copy_from(std::span<const T> values, const Stream& stream) {
    PLEAT_ASSERT(values.size() <= count_);
    check(cudaMemcpyAsync(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice, stream.get()), "copy");
  }
  std::vector<T> to_host(const Stream& stream) const {
    std::vector<T> values(count_);
    check(cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, stream.get()), "copy");
    stream.wait();
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

// What `work` enqueues on the stream, to be repeated at the cost of one launch.
class Graph {
 public:
  template <class Work>
  Graph(const Stream& stream, Work work) {
    check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "a capture did not begin");
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream.get(), &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream.get(), &graph), "a capture failed");
    const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "a captured graph cannot run");
  }
  ~Graph() { cudaGraphExecDestroy(graph_); }
  Graph(const Graph&) = delete;
  void launch(const Stream& stream) const { check(cudaGraphLaunch(graph_, stream.get()), "a graph did not start"); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace pleat::cuda
