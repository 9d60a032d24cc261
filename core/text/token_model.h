#pragma once
// Turns a word into tokens.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat {

class TokenModel {
 public:
  // Memory one word after the other can use.
  struct Scratch {
    struct Symbol {
      int32_t id;
      int32_t previous, next;  // -1: none
      bool alive;
    };
    struct Candidate {
      int32_t rank, left, merged;
    };
    struct Path {
      double score;
      int32_t begin, id;  // of the last piece; id -1: unknown
      bool reached;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::vector<Path> paths;
  };

  virtual ~TokenModel() = default;
  // Appends the ids of a word of any bytes.
  virtual void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const = 0;
  // Entries as they stand in the file.
  virtual const std::unordered_map<std::string, int32_t>& vocabulary() const = 0;
};

// From the "model" of a tokenizer.json. byte_level: words are bytes and the vocabulary is written in the byte-level
// alphabet; else words are text.
std::unique_ptr<TokenModel> make_token_model(const nlohmann::json& description, bool byte_level);

// The tokens <0x00> to <0xFF> that stand for bytes the vocabulary has no other token for; -1 where missing.
class ByteTokens {
 public:
  explicit ByteTokens(const std::unordered_map<std::string, int32_t>& vocabulary);
  // Appends the tokens of the bytes, if all are there.
  bool append(std::string_view bytes, std::vector<int32_t>& ids) const;

 private:
  int32_t ids_[256];
};

// The byte that an entry like <0x0A> stands for; -1: it is none.
int byte_of_entry(std::string_view entry);

}  // namespace pleat
