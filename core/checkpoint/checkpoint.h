#pragma once
// A Hugging Face model folder: config.json beside model.safetensors, or beside model.safetensors.index.json and its
// shards; or a GGUF file, which is translated into the same terms, quantised weights into F32. Opening reads the
// headers only; tensors are read by slice with pread, so each rank reads just its share.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/dtype.h"

namespace pleat {

struct TensorInfo {
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
};

// Every error of the folder's content is Error(invalid), one sentence naming the file or tensor and the cause; a read
// the system refuses is Error(failed).
class Checkpoint {
 public:
  static Checkpoint open(const std::filesystem::path& model);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::filesystem::path& folder() const;  // or the GGUF file
  const nlohmann::json& config() const;
  // The __metadata__ of the first safetensors file: an object of strings, empty where there is none.
  const nlohmann::json& metadata() const;

  const TensorInfo* find(const std::string& name) const;  // nullptr if absent
  const TensorInfo& require(const std::string& name) const;
  const TensorInfo& require(const std::string& name, const std::vector<int64_t>& shape) const;
  std::vector<std::string> names() const;  // ascending

  // Rows [row_begin, row_end) and columns [col_begin, col_end) of a matrix in the file's own dtype, row-major, without
  // gaps. A 1-D tensor is one row. Safe to call from several threads.
  void read(const std::string& name, int64_t row_begin, int64_t row_end, int64_t col_begin, int64_t col_end,
            void* dst) const;
  // A whole small tensor of F32, F16 or BF16, converted.
  std::vector<float> read_f32(const std::string& name) const;
  // Tensor bytes asked of the system through this object so far, gaps between the columns of a slice included.
  int64_t bytes_read() const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pleat
