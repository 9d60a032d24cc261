#pragma once
// The unigram language model of SentencePiece (arXiv 1804.10959): of all ways to cut a word into pieces the likeliest.
#include <optional>

#include "core/text/token_model.h"

namespace pleat {

class Unigram : public TokenModel {
 public:
  explicit Unigram(const nlohmann::json& description);
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const override;
  const std::unordered_map<std::string, int32_t>& vocabulary() const override { return vocabulary_; }

 private:
  void find_paths(std::string_view word, Scratch& scratch) const;

  std::unordered_map<std::string, int32_t> vocabulary_;
  std::vector<double> scores_;                       // by id
  std::unordered_map<uint64_t, uint32_t> children_;  // of a trie: node * 256 + byte -> node
  std::vector<int32_t> piece_at_;                    // by node; -1: none ends here
  int32_t unknown_ = -1;
  double unknown_score_ = 0;
  std::optional<ByteTokens> bytes_;  // with byte_fallback
};

}  // namespace pleat
