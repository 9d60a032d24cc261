// The part of the CUDA runtime that Pleat uses, for devices made of this host: memory, streams, events and graphs.
#include "kernels/emulator/runtime.h"

#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "kernels/emulator/guarded_memory.h"
#include "kernels/emulator/running_grids.h"

namespace {

using Work = std::function<bool()>;
using Time = std::chrono::steady_clock::time_point;

struct Queue {
  std::deque<Work> waiting;

  bool idle() {
    while (!waiting.empty() && waiting.front()()) waiting.pop_front();
    return waiting.empty();
  }
};

}  // namespace

struct CUgraph_st {
  std::vector<Work> nodes;
  bool spoilt = false;
};
struct CUgraphExec_st {
  std::vector<Work> nodes;
};
struct CUstream_st {
  std::unique_ptr<CUgraph_st> capturing;
  std::shared_ptr<Queue> queue = std::make_shared<Queue>();
};
struct CUevent_st {
  std::weak_ptr<Queue> queue;                           // of the stream in which it was recorded
  std::shared_ptr<Time> at = std::make_shared<Time>();  // when the stream came there
  std::shared_ptr<bool> passed = std::make_shared<bool>(true);
};

namespace pleat::emulator {
namespace {

// What this OS thread captures. What would wait for the device is an error meanwhile, as it is in CUDA's thread-local
// capture mode.
thread_local constinit cudaStream_t capturing = nullptr;

cudaError_t spoil_capture(cudaError_t error) {
  capturing->capturing->spoilt = true;
  return error;
}

std::atomic<int> graphs_without_room = 0;

cudaError_t refuse_in_capture() {
  return capturing == nullptr ? cudaSuccess : spoil_capture(cudaErrorStreamCaptureUnsupported);
}

}  // namespace

void refuse_graphs(int count) { graphs_without_room = count; }

cudaError_t enqueue_until(cudaStream_t stream, std::function<bool()> try_work) {
  if (stream == nullptr) {
    if (capturing != nullptr) return spoil_capture(cudaErrorStreamCaptureImplicit);
    while (!try_work()) std::this_thread::yield();
    return cudaSuccess;
  }
  if (stream->capturing) {
    if (stream->capturing->spoilt) return cudaErrorStreamCaptureInvalidated;
    stream->capturing->nodes.push_back(std::move(try_work));
  } else if (!stream->queue->idle() || !try_work()) {
    stream->queue->waiting.push_back(std::move(try_work));
  }
  return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work) {
  return enqueue_until(stream, [work = std::move(work)] { return work(), true; });
}

}  // namespace pleat::emulator

using pleat::emulator::capturing;
using pleat::emulator::enqueue;
using pleat::emulator::enqueue_until;
using pleat::emulator::graphs_without_room;
using pleat::emulator::refuse_in_capture;

namespace {

cudaError_t allocate(const char* call, void** memory, size_t bytes) {
  if (const cudaError_t error = refuse_in_capture(); error != cudaSuccess) return error;
  pleat::emulator::wait_for_running_grids(call);
  try {
    *memory = bytes > 0 ? pleat::emulator::allocate_guarded(bytes) : nullptr;
  } catch (const std::bad_alloc&) {
    return cudaErrorMemoryAllocation;
  }
  return cudaSuccess;
}
cudaError_t release(const char* call, void* memory) {
  if (const cudaError_t error = refuse_in_capture(); error != cudaSuccess) return error;
  if (memory == nullptr) return cudaSuccess;
  pleat::emulator::wait_for_running_grids(call);
  return pleat::emulator::free_guarded(memory), cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }  // each call says its own
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureImplicit:
      return "operation would make the legacy stream depend on a capturing blocking stream";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return "unknown error";
  }
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  pleat::emulator::note_allocation(bytes);
  return allocate("cudaMalloc", memory, bytes);
}
cudaError_t cudaFree(void* memory) { return release("cudaFree", memory); }
cudaError_t cudaMallocHost(void** memory, size_t bytes) { return allocate("cudaMallocHost", memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return release("cudaFreeHost", memory); }

// A graph's copy reads and writes the host's memory whenever it runs: no memory but pinned one is sure to be there.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const void* const host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : nullptr;
  if (capturing != nullptr && bytes > 0 && host != nullptr && !pleat::emulator::is_guarded(host, bytes))
    return refuse_in_capture();
  const cudaError_t error = enqueue(stream, [=] {
    if (bytes > 0) std::memmove(to, from, bytes);  // else they may be nullptr
  });
  // To memory that is not pinned a copy returns when it is done.
  const bool waits = kind == cudaMemcpyDeviceToHost && bytes > 0 && !pleat::emulator::is_guarded(to, bytes);
  return error == cudaSuccess && waits ? cudaStreamSynchronize(stream) : error;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memset(to, value, bytes); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = new CUstream_st, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = refuse_in_capture(); error != cudaSuccess) return error;
  if (stream == nullptr) return cudaSuccess;
  while (!stream->queue->idle()) std::this_thread::yield();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || capturing != nullptr) return cudaErrorInvalidValue;  // CUDA: of a thread as many as it likes
  stream->capturing = std::make_unique<CUgraph_st>();
  capturing = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (stream == nullptr || !stream->capturing) return cudaErrorInvalidValue;
  const std::unique_ptr<CUgraph_st> captured = std::move(stream->capturing);
  capturing = nullptr;
  *graph = captured->spoilt ? nullptr : new CUgraph_st{captured->nodes};
  return captured->spoilt ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const bool captured = stream != nullptr && stream->capturing;
  *status = !captured                   ? cudaStreamCaptureStatusNone
            : stream->capturing->spoilt ? cudaStreamCaptureStatusInvalidated
                                        : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  pleat::emulator::wait_for_running_grids("cudaGraphInstantiate");
  if (graphs_without_room > 0 && graphs_without_room-- > 0) return cudaErrorMemoryAllocation;
  return *out = new CUgraphExec_st{graph->nodes}, cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  for (const Work& node : graph->nodes)
    if (const cudaError_t error = enqueue_until(stream, node); error != cudaSuccess) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new CUevent_st, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
// In a graph, and there only, CUDA wants it to be external: else it would be a point in the capture, not in the work.
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  const bool captured = stream != nullptr && stream->capturing;
  if (captured != (flags == cudaEventRecordExternal)) return captured ? refuse_in_capture() : cudaErrorInvalidValue;
  if (stream != nullptr) event->queue = stream->queue;
  event->passed = std::make_shared<bool>(false);
  return enqueue(stream, [at = event->at, passed = event->passed] {
    *at = std::chrono::steady_clock::now();
    *passed = true;
  });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t error = refuse_in_capture(); error != cudaSuccess) return error;
  if (const std::shared_ptr<Queue> queue = event->queue.lock()) queue->idle();
  return *event->passed ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  while (cudaEventQuery(event) == cudaErrorNotReady) std::this_thread::yield();
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(*end->at - *begin->at).count();
  return cudaSuccess;
}
}
