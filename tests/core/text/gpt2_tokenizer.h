#pragma once
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/text/byte_level.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"

namespace pleat {

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline const Tokenizer& embedded() {
  static const Tokenizer tokenizer = Tokenizer::open(PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m");
  return tokenizer;
}

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(PLEAT_SOURCE_DIR) / "tests" / "fixtures" / name;
}

inline std::filesystem::path shared_data() {
  const char* chosen = std::getenv("PLEAT_DATA");
  return chosen ? std::filesystem::path(chosen) : std::filesystem::path(PLEAT_SOURCE_DIR) / "../shared/data";
}

// GPT-2 numbers the bytes first, those with a printable character of their own before the others, then the results of
// its merges, then <|endoftext|>.
// A small model has the first merges only.
inline nlohmann::json gpt2_model(size_t merge_count = SIZE_MAX) {
  nlohmann::json vocab = nlohmann::json::object(), merges = nlohmann::json::array();
  int id = 0;
  for (const bool printable : {true, false}) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string character;
      append_utf8(byte_level_character(uint8_t(byte)), character);
      if ((byte_level_character(uint8_t(byte)) < 0x100) == printable) vocab[character] = id++;
    }
  }
  std::ifstream file(fixture("gpt2-tokenizer/merges.txt"));
  for (std::string line; merges.size() < merge_count && std::getline(file, line);) {
    if (line.starts_with("#version") || line.empty()) continue;
    merges.push_back(line);
    const size_t space = line.find(' ');
    vocab[line.substr(0, space) + line.substr(space + 1)] = id++;
  }
  vocab["<|endoftext|>"] = id;
  return {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}};
}

inline nlohmann::json tokenizer_json(nlohmann::json model) {
  const nlohmann::json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  return {{"added_tokens", nlohmann::json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"decoder", byte_level},
          {"model", std::move(model)}};
}

}  // namespace pleat
