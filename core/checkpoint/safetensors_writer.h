#pragma once
// Writes one safetensors file as a stream. It appears under its name only when complete and on disk: until finish() the
// bytes are in a temporary file beside it, which the destructor removes.
//
//   SafetensorsWriter out(path, {{"format", "pt"}});
//   out.add("a", DType::f32, {2, 3});  ...            every tensor first
//   out.begin();
//   out.write("a", data, 24);  ...                    in the order of add(), in as many pieces as wanted
//   out.finish();
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace pleat {

// A file that cannot be created or written (a full disk) is Error(failed) naming it and the cause.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(std::filesystem::path path, std::map<std::string, std::string> metadata = {});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape);
  void begin();
  void write(const std::string& name, const void* data, size_t bytes);
  void finish();

 private:
  struct Entry {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    size_t bytes;
  };

  void put(const void* data, size_t bytes);
  void flush();
  void skip_completed();

  std::filesystem::path path_, temporary_;
  std::map<std::string, std::string> metadata_;
  std::vector<Entry> entries_;
  std::vector<char> pending_;  // small writes are gathered
  size_t current_ = 0;         // entry being written
  size_t written_ = 0;         // bytes of it so far
  int file_ = -1;
};

}  // namespace pleat
