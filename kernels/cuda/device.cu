#include "kernels/cuda/device.h"

#include "kernels/cuda/runtime_check.h"

namespace pleat::cuda {

std::string why_no_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "no device is visible";
}

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "no stream"); }
Stream::~Stream() { cudaStreamDestroy(stream_); }
void wait_for(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "the device's work failed"); }

void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (bytes > 0 && cudaMalloc(&memory, bytes) != cudaSuccess)
    throw Error(ErrorKind::failed, concat("no room for ", bytes, " bytes on the device"));
  return memory;
}
void release(void* memory) { cudaFree(memory); }
void* allocate_on_host(size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "no pinned memory");
  return memory;
}
void release_on_host(void* memory) { cudaFreeHost(memory); }

void copy_to_device(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "a copy to the device failed");
}
void copy_to_host(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "a copy to the host failed");
}
void copy_on_device(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "a copy on the device failed");
}
void clear(void* memory, size_t bytes, StreamHandle stream) {
  check(cudaMemsetAsync(memory, 0, bytes, stream), "the device's memory cannot be cleared");
}

Graph::Graph(const Stream& stream, const std::function<void()>& work) {
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
Graph::~Graph() { cudaGraphExecDestroy(graph_); }
void Graph::launch(const Stream& stream) const {
  check(cudaGraphLaunch(graph_, stream.get()), "a graph did not start");
}

}  // namespace pleat::cuda
