#include "parallel/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

#include "kernels/check.h"

namespace pleat {

SharedMemory::SharedMemory(std::string name, size_t bytes, int flags) : name_(std::move(name)), bytes_(bytes) {
  const int file = shm_open(name_.c_str(), O_RDWR | O_CLOEXEC | flags, 0600);
  if (file < 0) throw Error(ErrorKind::failed, concat("cannot open shared memory ", name_, ": ", strerror(errno)));
  // Reserves the pages now: with a full /dev/shm the first touch would be a SIGBUS.
  const int error = flags & O_CREAT ? posix_fallocate(file, 0, off_t(bytes)) : 0;
  if (error == 0) data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (error != 0 || data_ == MAP_FAILED) {
    data_ = nullptr;
    if (flags & O_CREAT) shm_unlink(name_.c_str());
    throw Error(ErrorKind::failed,
                concat("cannot have ", bytes >> 10, " KB of shared memory: ", strerror(error ? error : errno),
                       "; make /dev/shm larger (docker: --shm-size)"));
  }
}

SharedMemory SharedMemory::create(size_t bytes) {
  std::random_device random;
  return SharedMemory(concat("/pleat-", getpid(), "-", random()), bytes, O_CREAT | O_EXCL);
}

SharedMemory SharedMemory::open(const std::string& name, size_t bytes) { return SharedMemory(name, bytes, 0); }

SharedMemory::~SharedMemory() {
  if (data_) munmap(data_, bytes_);
}

void SharedMemory::swap(SharedMemory& other) {
  std::swap(name_, other.name_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
}

void SharedMemory::unlink() { shm_unlink(name_.c_str()); }

}  // namespace pleat
