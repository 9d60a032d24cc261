#pragma once
// What lives on a device: memory, streams and graphs, without CUDA's own headers. All throw Error(failed) with what
// the runtime says.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/check.h"

struct CUstream_st;     // CUDA's names for what a
struct CUevent_st;      // cudaStream_t, a cudaEvent_t
struct CUgraphExec_st;  // and a cudaGraphExec_t point to

namespace pleat::cuda {

using StreamHandle = CUstream_st*;

// Empty where a kernel can run, else why not: no driver, no device.
std::string why_no_device();

// Devices are numbered as CUDA_VISIBLE_DEVICES shows them. A thread uses device 0 until it says otherwise.
int device_count();
void use_device(int ordinal);

struct DeviceInfo {
  int ordinal = 0;
  std::string pci;   // bus id, "0000:41:00.0"
  std::string uuid;  // 32 hexadecimal digits; parts of one device (MIG) have their own
  std::string name;
  int major = 0, minor = 0;                   // compute capability
  int64_t memory_total = 0, memory_free = 0;  // bytes
};
DeviceInfo device_info();  // of the calling thread's device

bool is_on_device(const void* memory);

void wait_for(StreamHandle stream);  // until all that was enqueued is done

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  StreamHandle get() const { return stream_; }
  void wait() const { wait_for(stream_); }

 private:
  StreamHandle stream_ = nullptr;
};

// A point in a stream's work.
class Event {
 public:
  enum Kind { untimed, timed };
  explicit Event(Kind kind = untimed);
  ~Event();
  Event(const Event&) = delete;
  void record(const Stream& stream);  // behind all that was enqueued; in a graph whenever that runs
  bool passed() const;                // does not wait; throws where work before it failed
  // From `before` to here, both timed and passed.
  float milliseconds_since(const Event& before) const;

 private:
  CUevent_st* event_ = nullptr;
};

void* allocate(size_t bytes);  // nullptr for none
void release(void* memory);
void* allocate_on_host(size_t bytes);  // nullptr for none; pinned, at the same address on every device
void release_on_host(void* memory);
void copy_to_device(void* to, const void* from, size_t bytes, StreamHandle stream);
void copy_to_host(void* to, const void* from, size_t bytes, StreamHandle stream);
void copy_on_device(void* to, const void* from, size_t bytes, StreamHandle stream);
void zero(void* to, size_t bytes, StreamHandle stream);

// `count` elements of device memory. Movable, not copyable.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t count) : data_(static_cast<T*>(allocate(count * sizeof(T)))), count_(count) {}
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
  ~DeviceArray() { release(data_); }

  T* data() const { return data_; }
  size_t size() const { return count_; }

  // values must stay until the stream has come there.
  void copy_from(std::span<const T> values, const Stream& stream) {
    PLEAT_ASSERT(values.size() <= count_);
    copy_to_device(data_, values.data(), values.size_bytes(), stream.get());
  }
  std::vector<T> to_host(const Stream& stream) const {
    std::vector<T> values(count_);
    stream.wait();  // else the copy would, to memory that is not pinned, and keep every thread from launching meanwhile
    copy_to_host(values.data(), data_, count_ * sizeof(T), stream.get());
    stream.wait();
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

// `count` elements of pinned host memory, which copies in stream order need. T is trivial.
template <class T>
class PinnedArray {
 public:
  explicit PinnedArray(size_t count) : data_(static_cast<T*>(allocate_on_host(count * sizeof(T)))), count_(count) {}
  PinnedArray(const PinnedArray&) = delete;
  ~PinnedArray() { release_on_host(data_); }
  T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_;
  size_t count_;
};

// What `work` enqueues on the stream, to be repeated at the cost of one launch. It must not allocate, free or wait, and
// copies only from and to pinned memory of the host, which stays. Graphs take the device's memory: without it there is
// none to launch.
class Graph {
 public:
  template <class Work>
  Graph(const Stream& stream, Work&& work) {
    capture(
        stream, [](void* context) { (*static_cast<std::remove_reference_t<Work>*>(context))(); }, (void*)&work);
  }
  ~Graph();
  Graph(const Graph&) = delete;
  bool has_room() const { return graph_ != nullptr; }
  void launch(const Stream& stream) const;

 private:
  void capture(const Stream& stream, void (*work)(void*), void* context);
  CUgraphExec_st* graph_ = nullptr;
};

}  // namespace pleat::cuda
