#pragma once
// A float32 matrix as a NumPy file, written row by row.
#include <cstdint>
#include <fstream>
#include <span>
#include <string>

namespace pleat {

class NpyWriter {
 public:
  // Error(invalid) if the file cannot be created.
  NpyWriter(const std::string& path, int64_t rows, int64_t cols);
  void write(std::span<const float> values);
  // Error(failed) if not everything reached the file.
  void finish();

 private:
  std::string path_;
  std::ofstream out_;
};

}  // namespace pleat
