#pragma once
// The container of a GGUF file (versions 2 and 3): metadata, and where its tensors lie.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/checkpoint/file.h"

namespace pleat {

struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // as the file's dimensions, reversed: [rows, columns]
  uint32_t type = 0;           // ggml's number
  uint64_t offset = 0;         // in the file
};

struct GgufFile {
  nlohmann::json metadata = nlohmann::json::object();  // key -> number, bool, text or array of one of them
  std::vector<GgufTensor> tensors;
};

// Error(invalid) in one sentence naming the file where it is not such a file, or ends or lies inside its header.
// Without vocabulary the long lists of its tokenizer, most of a header, are empty.
GgufFile read_gguf(const File& file, bool with_vocabulary);

}  // namespace pleat
