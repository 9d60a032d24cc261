#pragma once
// Byte-pair encoding: the bytes of a word, merged pair by pair in the order of the merge list.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat {

class Bpe {
 public:
  // From the "model" of a tokenizer.json, whose vocabulary is written in the byte-level alphabet.
  explicit Bpe(const nlohmann::json& description);

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
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };
  // Appends the ids of a word of any bytes; the time grows as n log n. Error(invalid) naming a byte without a token.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  // Entries as they stand in the file.
  const std::unordered_map<std::string, int32_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    int32_t rank, merged;
  };

  void read_vocabulary(const nlohmann::json& vocab);
  void read_merges(const nlohmann::json& merges);
  void push_pair(Scratch& scratch, int32_t left) const;
  void merge(Scratch& scratch) const;

  std::unordered_map<std::string, int32_t> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;            // by left id and right id
  std::array<int32_t, 256> byte_ids_;                     // -1: no token
  std::unordered_map<std::string, int32_t> whole_words_;  // by bytes; only with ignore_merges
};

}  // namespace pleat
