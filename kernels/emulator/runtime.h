#pragma once
// Streams of the emulated runtime: work runs where it is enqueued, at once, or is recorded while its stream is being
// captured into a graph.
#include <cuda_runtime_api.h>

#include <functional>

namespace pleat::emulator {

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);

}  // namespace pleat::emulator
