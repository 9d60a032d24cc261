#pragma once
// Byte-pair encoding: the bytes or characters of a word, merged pair by pair in the order of the merge list.
#include <array>
#include <optional>

#include "core/text/token_model.h"

namespace pleat {

class Bpe : public TokenModel {
 public:
  explicit Bpe(const nlohmann::json& description, bool byte_level = true);

  // The time grows as n log n. Error(invalid) naming a byte without a token (byte-level). A character of text without a
  // token becomes its bytes' tokens (byte_fallback), or the unknown token, or nothing where there is none.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const override;
  const std::unordered_map<std::string, int32_t>& vocabulary() const override { return vocabulary_; }

 private:
  struct Merge {
    int32_t rank, merged;
  };

  void read_vocabulary(const nlohmann::json& vocab);
  void read_merges(const nlohmann::json& merges);
  void add_bytes(std::string_view word, Scratch& scratch) const;
  void add_characters(std::string_view word, Scratch& scratch) const;
  void push_pair(Scratch& scratch, int32_t left) const;
  void merge(Scratch& scratch) const;

  const bool byte_level_;
  std::unordered_map<std::string, int32_t> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // by left id and right id
  std::array<int32_t, 256> byte_ids_;           // byte-level; -1: no token
  std::optional<ByteTokens> byte_tokens_;       // with byte_fallback
  int32_t unknown_ = -1;
  bool fuse_unknown_ = false;                             // unknown characters side by side are one token
  std::unordered_map<std::string, int32_t> whole_words_;  // by bytes; only with ignore_merges
};

}  // namespace pleat
