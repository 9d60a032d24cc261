#include "core/text/unigram.h"

#include <algorithm>
#include <limits>

#include "core/text/description.h"
#include "core/text/utf8.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr double kUnknownPenalty = 10;  // below the least likely piece, as SentencePiece has it

}  // namespace

Unigram::Unigram(const nlohmann::json& model) : piece_at_{-1} {
  PLEAT_REQUIRE(model.contains("vocab") && model["vocab"].is_array(), "tokenizer.json: the Unigram model has no vocab");
  double lowest = std::numeric_limits<double>::infinity();
  for (const nlohmann::json& entry : model["vocab"]) {
    const bool valid = entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    PLEAT_REQUIRE(valid && int64_t(scores_.size()) < kTokenIdLimit, "tokenizer.json: entry ", scores_.size(),
                  " of the Unigram model's vocab is not a piece and its score");
    const std::string piece = entry[0];
    const int32_t id = int32_t(scores_.size());
    scores_.push_back(entry[1]);
    lowest = std::min(lowest, scores_.back());
    if (!vocabulary_.emplace(piece, id).second || piece.empty()) continue;
    uint32_t node = 0;
    for (const char c : piece) {
      const auto [child, created] = children_.try_emplace(uint64_t(node) << 8 | uint8_t(c), uint32_t(piece_at_.size()));
      if (created) piece_at_.push_back(-1);
      node = child->second;
    }
    piece_at_[node] = id;
  }
  unknown_score_ = lowest - kUnknownPenalty;
  if (const auto unknown = model.find("unk_id"); unknown != model.end() && !unknown->is_null()) {
    PLEAT_REQUIRE(is_token_id(*unknown) && unknown->get<size_t>() < scores_.size(), "tokenizer.json: unk_id ",
                  unknown->dump(), " is not in the Unigram model's vocab");
    unknown_ = unknown->get<int32_t>();
  }
  if (json_flag(model, "byte_fallback", false)) bytes_.emplace(vocabulary_);
}

// paths[i]: the likeliest way to cut the first i bytes.
void Unigram::find_paths(std::string_view word, Scratch& scratch) const {
  auto& paths = scratch.paths;
  paths.assign(word.size() + 1, {0, 0, -1, false});
  paths[0].reached = true;
  const auto offer = [&](size_t begin, size_t end, int32_t id, double score) {
    const double total = paths[begin].score + score;
    if (!paths[end].reached || total > paths[end].score) paths[end] = {total, int32_t(begin), id, true};
  };
  for (size_t begin = 0; begin < word.size(); begin += utf8_step(word.substr(begin)).length) {
    const size_t character = utf8_step(word.substr(begin)).length;
    bool covered = false;  // by a piece of one character
    uint32_t node = 0;
    for (size_t end = begin; end < word.size();) {
      const auto child = children_.find(uint64_t(node) << 8 | uint8_t(word[end]));
      if (child == children_.end()) break;
      node = child->second;
      ++end;
      if (piece_at_[node] < 0) continue;
      offer(begin, end, piece_at_[node], scores_[size_t(piece_at_[node])]);
      covered |= end == begin + character;
    }
    if (!covered) offer(begin, begin + character, -1, unknown_score_);
  }
}

void Unigram::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  PLEAT_REQUIRE(word.size() < size_t(std::numeric_limits<int32_t>::max()), "a word of ", word.size(),
                " bytes is too long");
  find_paths(word, scratch);
  auto& symbols = scratch.symbols;  // the pieces, last first: id, begin and end
  symbols.clear();
  for (int32_t end = int32_t(word.size()); end > 0;) {
    const auto& path = scratch.paths[size_t(end)];
    // Unknown characters side by side are one piece.
    if (path.id < 0 && !symbols.empty() && symbols.back().id < 0)
      symbols.back().previous = path.begin;
    else
      symbols.push_back({path.id, path.begin, end, true});
    end = path.begin;
  }
  for (auto piece = symbols.rbegin(); piece != symbols.rend(); ++piece) {
    if (piece->id >= 0) {
      ids.push_back(piece->id);
      continue;
    }
    const std::string_view text = word.substr(size_t(piece->previous), size_t(piece->next - piece->previous));
    if (bytes_ && bytes_->append(text, ids)) continue;
    PLEAT_REQUIRE(unknown_ >= 0, "the vocabulary has no token for '", text, "' and none for unknown text");
    ids.push_back(unknown_);
  }
}

}  // namespace pleat
