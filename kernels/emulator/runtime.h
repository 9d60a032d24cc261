#pragma once
// Streams of the emulated runtime: work runs where it is enqueued, at once, or is recorded while its stream is being
// captured into a graph. Only work that waits for others (collectives) may stay, with all that comes behind it; it is
// tried again whenever its stream or an event of it is looked at.
#include <cuda_runtime_api.h>

#include <functional>

namespace pleat::emulator {

// A call that CUDA forbids spoils a capture: what comes behind it in that stream fails, as does the capture's end.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);

// try_work: whether it is done. A copy of it is what runs, for each launch of a graph another one.
cudaError_t enqueue_until(cudaStream_t stream, std::function<bool()> try_work);

// How many devices this process sees, 1 if nobody says so. All are this host; each has its own PCI id and UUID.
void set_device_count(int count);

// Bytes that have been allocated so far while a thread was on this device.
int64_t allocated_on(int device);

// The next `count` graphs find no memory.
void refuse_graphs(int count);

void note_allocation(size_t bytes);  // on the calling thread's device

// That cuBLASLt has had so far.
int64_t library_products();

}  // namespace pleat::emulator
