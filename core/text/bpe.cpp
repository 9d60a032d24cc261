#include "core/text/bpe.h"

#include <algorithm>
#include <limits>

#include "core/text/byte_level.h"
#include "core/text/description.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat {
namespace {

uint64_t pair_key(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

// Parts of the format that no known language model uses.
void refuse_options(const nlohmann::json& model) {
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto value = model.find(key);
    const bool unused = value == model.end() || value->is_null() || *value == "" || *value == false || *value == 0.0;
    PLEAT_REQUIRE(unused, "tokenizer.json: '", key, "' of the BPE model is not supported");
  }
}

std::pair<std::string, std::string> merge_parts(const nlohmann::json& merge, size_t rank) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  PLEAT_REQUIRE(merge.is_string(), "tokenizer.json: merge ", rank, " is not a pair of tokens");
  const auto& text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  PLEAT_REQUIRE(space != std::string::npos && text.find(' ', space + 1) == std::string::npos, "tokenizer.json: merge ",
                rank, ", '", text, "', is not a pair of tokens");
  return {text.substr(0, space), text.substr(space + 1)};
}

// A heap with the earliest merge on top, the leftmost of equal ones.
bool later(const Bpe::Scratch::Candidate& a, const Bpe::Scratch::Candidate& b) {
  return std::pair(a.rank, a.left) > std::pair(b.rank, b.left);
}

}  // namespace

Bpe::Bpe(const nlohmann::json& model, bool byte_level) : byte_level_(byte_level) {
  refuse_options(model);
  PLEAT_REQUIRE(model.contains("vocab") && model["vocab"].is_object(), "tokenizer.json: the BPE model has no vocab");
  PLEAT_REQUIRE(model.contains("merges") && model["merges"].is_array(), "tokenizer.json: the BPE model has no merges");
  read_vocabulary(model["vocab"]);
  read_merges(model["merges"]);
  if (json_flag(model, "ignore_merges", false)) {
    for (const auto& [entry, id] : vocabulary_) {
      const auto bytes = byte_level_ ? from_byte_level(entry) : entry;
      if (bytes) whole_words_.emplace(*bytes, id);
    }
  }
  if (byte_level_) return;
  fuse_unknown_ = json_flag(model, "fuse_unk", false);
  if (json_flag(model, "byte_fallback", false)) byte_tokens_.emplace(vocabulary_);
  const auto unknown = model.find("unk_token");
  if (unknown == model.end() || unknown->is_null()) return;
  const auto found = unknown->is_string() ? vocabulary_.find(unknown->get<std::string>()) : vocabulary_.end();
  PLEAT_REQUIRE(found != vocabulary_.end(), "tokenizer.json: the BPE model's unk_token ", unknown->dump(),
                " is not in its vocab");
  unknown_ = found->second;
}

void Bpe::read_vocabulary(const nlohmann::json& vocab) {
  vocabulary_.reserve(vocab.size());
  for (const auto& [entry, id] : vocab.items()) {
    PLEAT_REQUIRE(is_token_id(id), "tokenizer.json: token '", entry, "' has no valid id");
    vocabulary_.emplace(entry, id.get<int32_t>());
  }
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    append_utf8(byte_level_character(uint8_t(byte)), character);
    const auto found = vocabulary_.find(character);
    byte_ids_[size_t(byte)] = found == vocabulary_.end() ? -1 : found->second;
  }
}

void Bpe::read_merges(const nlohmann::json& merges) {
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = merge_parts(merges[rank], rank);
    const auto id = [&, rank = rank](const std::string& token) {
      const auto found = vocabulary_.find(token);
      PLEAT_REQUIRE(found != vocabulary_.end(), "tokenizer.json: merge ", rank, " needs the token '", token,
                    "', which the vocabulary does not have");
      return found->second;
    };
    const uint64_t pair = pair_key(id(left), id(right));
    merges_.insert_or_assign(pair, Merge{int32_t(rank), id(left + right)});
  }
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (!whole_words_.empty()) {
    const auto whole = whole_words_.find(std::string(word));
    if (whole != whole_words_.end()) return ids.push_back(whole->second);
  }
  PLEAT_REQUIRE(word.size() < size_t(std::numeric_limits<int32_t>::max()), "a word of ", word.size(),
                " bytes is too long");
  scratch.symbols.clear();
  scratch.heap.clear();
  byte_level_ ? add_bytes(word, scratch) : add_characters(word, scratch);
  const int32_t count = int32_t(scratch.symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    scratch.symbols[size_t(i)].previous = i - 1;
    scratch.symbols[size_t(i)].next = i + 1 < count ? i + 1 : -1;
  }
  for (int32_t i = 0; i + 1 < count; ++i) push_pair(scratch, i);
  merge(scratch);
  for (int32_t i = 0; i >= 0 && i < count; i = scratch.symbols[size_t(i)].next) {
    ids.push_back(scratch.symbols[size_t(i)].id);
  }
}

void Bpe::add_bytes(std::string_view word, Scratch& scratch) const {
  for (const char c : word) {
    const uint8_t byte = uint8_t(c);
    if (byte_ids_[byte] >= 0) scratch.symbols.push_back({byte_ids_[byte], -1, -1, true});
  }
}

void Bpe::add_characters(std::string_view word, Scratch& scratch) const {
  std::vector<int32_t> fallback;
  bool after_unknown = false;
  for (size_t length = 0; !word.empty(); word.remove_prefix(length)) {
    const Utf8Step step = utf8_step(word);
    length = step.length;
    const std::string character = step.kind == Utf8Step::valid ? std::string(word.substr(0, length)) : "\xef\xbf\xbd";
    const auto found = vocabulary_.find(character);
    fallback.clear();
    const bool was_unknown = after_unknown;
    after_unknown = false;
    if (found != vocabulary_.end()) {
      scratch.symbols.push_back({found->second, -1, -1, true});
    } else if (byte_tokens_ && byte_tokens_->append(character, fallback)) {
      for (const int32_t id : fallback) scratch.symbols.push_back({id, -1, -1, true});
    } else if (unknown_ >= 0) {
      if (!(fuse_unknown_ && was_unknown)) scratch.symbols.push_back({unknown_, -1, -1, true});
      after_unknown = true;
    }
  }
}

void Bpe::push_pair(Scratch& scratch, int32_t left) const {
  const auto& symbol = scratch.symbols[size_t(left)];
  if (symbol.next < 0) return;
  const auto found = merges_.find(pair_key(symbol.id, scratch.symbols[size_t(symbol.next)].id));
  if (found == merges_.end()) return;
  scratch.heap.push_back({found->second.rank, left, found->second.merged});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), later);
}

void Bpe::merge(Scratch& scratch) const {
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), later);
    const Scratch::Candidate top = scratch.heap.back();
    scratch.heap.pop_back();
    auto& left = scratch.symbols[size_t(top.left)];
    if (!left.alive || left.next < 0) continue;
    auto& right = scratch.symbols[size_t(left.next)];
    // A candidate outlives its pair when a neighbour was merged first. What counts is whether the pair now there gives
    // the same token, as in Hugging Face's implementation.
    const auto found = merges_.find(pair_key(left.id, right.id));
    if (found == merges_.end() || found->second.merged != top.merged) continue;
    left.id = top.merged;
    left.next = right.next;
    right.alive = false;
    if (right.next >= 0) scratch.symbols[size_t(right.next)].previous = top.left;
    if (left.previous >= 0) push_pair(scratch, left.previous);
    push_pair(scratch, top.left);
  }
}

}  // namespace pleat
