#pragma once
// A tokenizer a test can calculate with: ids 0 to 255 are the bytes, then come a few longer pieces and the end token.
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/text/byte_level.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"

namespace pleat::test {

inline const std::vector<std::string>& long_pieces() {
  static const std::vector<std::string> pieces = {"ab", "bc", "cab", "abcab"};
  return pieces;
}
constexpr int32_t kEndOfText = 260;
constexpr int64_t kBytesVocab = 264;  // the model's: a few ids more than the tokenizer knows

inline Tokenizer byte_tokenizer(bool with_end = true) {
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    append_utf8(byte_level_character(uint8_t(byte)), character);
    vocab[character] = byte;
  }
  int32_t id = 256;
  for (const std::string& piece : long_pieces()) vocab[piece] = id++;
  nlohmann::json added = nlohmann::json::array(), config = nlohmann::json::object();
  if (with_end) {
    added.push_back({{"id", kEndOfText}, {"content", "<end>"}, {"special", true}});
    config["eos_token"] = "<end>";
  }
  const nlohmann::json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  return Tokenizer::from_json({{"added_tokens", added},
                               {"normalizer", nullptr},
                               {"pre_tokenizer", byte_level},
                               {"decoder", byte_level},
                               {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}},
                              config);
}

// One id a byte.
inline std::vector<int32_t> bytes_of(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(uint8_t(c));
  return ids;
}

}  // namespace pleat::test
