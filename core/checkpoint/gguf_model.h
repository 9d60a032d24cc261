#pragma once
// A GGUF model in Hugging Face's terms, so that nothing above knows of GGUF: its configuration, the names and row
// orders of its tensors, its tokenizer. The rules are those of llama.cpp's converter, turned around.
#include <functional>
#include <map>
#include <string>

#include "core/checkpoint/gguf_file.h"

namespace pleat {

// One Hugging Face tensor out of a GGUF tensor.
struct GgufPart {
  const GgufTensor* tensor = nullptr;
  std::vector<int64_t> shape;                  // as Hugging Face has it
  std::function<int64_t(int64_t)> stored_row;  // row (element of a vector) -> where the file has it; empty: the same
  float shift = 0;                             // to be added to every value
};

// config.json. Error(invalid) naming an unknown architecture or a missing or impossible key.
nlohmann::json gguf_config(const GgufFile& gguf, const File& file);

// By Hugging Face's name; tensors that no name is known for are left out. `config`: of gguf_config().
std::map<std::string, GgufPart> gguf_parts(const GgufFile& gguf, const nlohmann::json& config);

// tokenizer.json and tokenizer_config.json.
nlohmann::json gguf_tokenizer(const GgufFile& gguf);
nlohmann::json gguf_tokenizer_config(const GgufFile& gguf);

}  // namespace pleat
