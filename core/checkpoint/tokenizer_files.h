#pragma once
// tokenizer.json and tokenizer_config.json of a model folder, or what a GGUF file has in their place.
#include <filesystem>

#include <nlohmann/json.hpp>

namespace pleat {

struct TokenizerFiles {
  nlohmann::json tokenizer;
  nlohmann::json config;  // null where there is none; with the chat template, wherever that stands
};
TokenizerFiles read_tokenizer_files(const std::filesystem::path& model);  // Error(invalid)

}  // namespace pleat
