#pragma once
// A model folder made from another one (or from a GGUF file): configuration, tokenizer and texts as they are, some of
// its tensors, some new ones.
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"

namespace pleat {

struct NewTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
};

// kept: names of the old tensors to write, with the bytes that `read` gives. metadata: entries beside the old ones or
// in their place.
void copy_checkpoint(const Checkpoint& from, const std::filesystem::path& folder,
                     const std::map<std::string, std::string>& metadata, const std::vector<std::string>& kept,
                     const std::function<std::vector<std::byte>(const std::string&)>& read,
                     const std::vector<NewTensor>& added);

}  // namespace pleat
