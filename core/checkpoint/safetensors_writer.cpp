#include "core/checkpoint/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr size_t kPendingBytes = size_t(1) << 20;
constexpr size_t kAlignment = 8;  // of the first tensor, so that a mapped file can be used in place

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

[[noreturn]] void fail(const std::filesystem::path& path, int error) {
  throw Error(ErrorKind::failed, concat("cannot write ", path, ": ", std::generic_category().message(error)));
}

void write_all(int file, const char* from, size_t bytes, const std::filesystem::path& path) {
  while (bytes > 0) {
    const ssize_t done = ::write(file, from, std::min(bytes, size_t(1) << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail(path, errno);
    from += done;
    bytes -= size_t(done);
  }
}

// A new name is on disk only once its folder is.
void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::map<std::string, std::string> metadata)
    : path_(std::move(path)), temporary_(path_.string() + ".partial"), metadata_(std::move(metadata)) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void SafetensorsWriter::add(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
  PLEAT_ASSERT(file_ < 0, "'", name, "' added after begin()");
  for (const Entry& entry : entries_) PLEAT_ASSERT(entry.name != name, "'", name, "' added twice");
  size_t bytes = size_of(dtype);
  for (const int64_t dimension : shape) bytes *= size_t(dimension);
  entries_.push_back({name, dtype, shape, bytes});
}

void SafetensorsWriter::begin() {
  std::string header = "{";
  if (!metadata_.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata_) header += quoted(key) + ":" + quoted(value) + ",";
    header.back() = '}';
    header += ',';
  }
  size_t offset = 0;
  for (const Entry& entry : entries_) {
    header += concat(quoted(entry.name), ":{\"dtype\":\"", name_of(entry.dtype),
                     "\",\"shape\":", nlohmann::json(entry.shape).dump(), ",\"data_offsets\":[", offset, ",",
                     offset + entry.bytes, "]},");
    offset += entry.bytes;
  }
  if (header.back() == ',') header.pop_back();
  header += '}';
  const uint64_t padded = (header.size() + kAlignment - 1) / kAlignment * kAlignment;
  header.resize(padded, ' ');

  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) fail(path_, errno);
  // Room for everything at once where the file system can: a disk too small shows now, not after an hour of work.
  const off_t total = off_t(sizeof(padded) + padded + offset);
  if (::fallocate(file_, 0, 0, total) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) fail(path_, errno);
  put(&padded, sizeof(padded));
  put(header.data(), header.size());
  skip_completed();
}

void SafetensorsWriter::write(const std::string& name, const void* data, size_t bytes) {
  PLEAT_ASSERT(file_ >= 0, "write before begin()");
  if (bytes == 0) return;
  PLEAT_ASSERT(current_ < entries_.size(), "'", name, "' has no bytes left to write");
  const Entry& entry = entries_[current_];
  PLEAT_ASSERT(entry.name == name, "'", name, "' written where '", entry.name, "' is due");
  PLEAT_ASSERT(bytes <= entry.bytes - written_, "'", name, "' has ", entry.bytes, " bytes, more were written");
  put(data, bytes);
  written_ += bytes;
  skip_completed();
}

void SafetensorsWriter::finish() {
  PLEAT_ASSERT(file_ >= 0 && current_ == entries_.size(), "finish before every tensor was written");
  flush();
  if (::fsync(file_) != 0) fail(path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, errno);
  const int closed = ::close(std::exchange(file_, -1));
  if (closed != 0) fail(path_, errno);
  sync_folder(path_.parent_path());
}

void SafetensorsWriter::put(const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  if (pending_.size() + bytes > kPendingBytes) flush();
  if (bytes > kPendingBytes) {
    write_all(file_, from, bytes, path_);
  } else {
    pending_.insert(pending_.end(), from, from + bytes);
  }
}

void SafetensorsWriter::flush() {
  write_all(file_, pending_.data(), pending_.size(), path_);
  pending_.clear();
}

void SafetensorsWriter::skip_completed() {
  while (current_ < entries_.size() && written_ == entries_[current_].bytes) {
    ++current_;
    written_ = 0;
  }
}

}  // namespace pleat
