#include "kernels/cuda/device.h"

#include "kernels/cuda/runtime_check.h"

namespace pleat::cuda {
namespace {

// What failed since this thread began to capture, where nothing can be thrown: a capture that it spoils says so.
struct Unsaid {
  const char* what = nullptr;
  cudaError_t error = cudaSuccess;
};
thread_local constinit Unsaid unsaid;

void note(cudaError_t error, const char* what) {
  if (error != cudaSuccess && unsaid.error == cudaSuccess) unsaid = {what, error};
}

}  // namespace

std::string why_no_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "no device is visible";
}

int device_count() {
  int count = 0;
  check(cudaGetDeviceCount(&count), "no device");
  return count;
}
void use_device(int ordinal) { check(cudaSetDevice(ordinal), "the device cannot be used"); }

DeviceInfo device_info() {
  DeviceInfo info;
  check(cudaGetDevice(&info.ordinal), "no device");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, info.ordinal), "the device does not say what it is");
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  for (const char byte : properties.uuid.bytes) {
    const char* const digits = "0123456789abcdef";
    info.uuid += {digits[byte >> 4 & 0xf], digits[byte & 0xf]};
  }
  char pci[32] = {};
  check(cudaDeviceGetPCIBusId(pci, sizeof pci, info.ordinal), "the device does not say where it is");
  info.pci = pci;
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "the device does not say what memory it has");
  info.memory_free = int64_t(free);
  info.memory_total = int64_t(total);
  return info;
}

bool is_on_device(const void* memory) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, memory), "the runtime does not say where memory is");
  return attributes.type == cudaMemoryTypeDevice;
}

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "no stream"); }
Stream::~Stream() { cudaStreamDestroy(stream_); }
void wait_for(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "the device's work failed"); }

Event::Event(Kind kind) {
  check(cudaEventCreateWithFlags(&event_, kind == timed ? cudaEventDefault : cudaEventDisableTiming), "no event");
}
Event::~Event() { cudaEventDestroy(event_); }
void Event::record(const Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream.get(), &status), "a stream does not say whether it is captured");
  const unsigned how = status == cudaStreamCaptureStatusNone ? cudaEventRecordDefault : cudaEventRecordExternal;
  check(cudaEventRecordWithFlags(event_, stream.get(), how), "an event was not recorded");
}
bool Event::passed() const {
  const cudaError_t error = cudaEventQuery(event_);
  if (error == cudaErrorNotReady) return false;
  check(error, "the device's work failed");
  return true;
}
float Event::milliseconds_since(const Event& before) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, before.event_, event_), "a time was not measured");
  return milliseconds;
}

void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (bytes > 0 && cudaMalloc(&memory, bytes) != cudaSuccess)
    throw Error(ErrorKind::failed, concat("no room for ", bytes, " bytes on the device"));
  return memory;
}
void release(void* memory) {
  if (memory != nullptr)
    note(cudaFree(memory), "memory of the device was not freed");  // of nothing, too, no capture may
}
void* allocate_on_host(size_t bytes) {
  void* memory = nullptr;
  if (bytes == 0) return memory;
  check(cudaMallocHost(&memory, bytes), "no pinned memory");
  return memory;
}
void release_on_host(void* memory) {
  if (memory != nullptr) note(cudaFreeHost(memory), "pinned memory was not freed");
}

void copy_to_device(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "a copy to the device failed");
}
void copy_to_host(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "a copy to the host failed");
}
void copy_on_device(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "a copy on the device failed");
}
void zero(void* to, size_t bytes, StreamHandle stream) {
  check(cudaMemsetAsync(to, 0, bytes, stream), "the device's memory was not cleared");
}

void Graph::capture(const Stream& stream, void (*work)(void*), void* context) {
  check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "a capture did not begin");
  unsaid = {};
  cudaGraph_t graph = nullptr;
  try {
    work(context);
  } catch (...) {
    cudaStreamEndCapture(stream.get(), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    check(unsaid.error, unsaid.what);
    throw;
  }
  const cudaError_t captured = cudaStreamEndCapture(stream.get(), &graph);
  check(unsaid.error, unsaid.what);
  check(captured, "a capture failed");
  cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  if (error == cudaSuccess) error = cudaGraphUpload(graph_, stream.get());
  if (error != cudaErrorMemoryAllocation) return check(error, "a captured graph cannot run");
  cudaGetLastError();  // which a later launch would be told
  cudaGraphExecDestroy(std::exchange(graph_, nullptr));
}
Graph::~Graph() { cudaGraphExecDestroy(graph_); }
void Graph::launch(const Stream& stream) const {
  check(cudaGraphLaunch(graph_, stream.get()), "a graph did not start");
}

}  // namespace pleat::cuda
