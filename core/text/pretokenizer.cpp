#include "core/text/pretokenizer.h"

#include <vector>

#include "core/text/byte_level.h"
#include "core/text/split.h"
#include "kernels/check.h"

namespace pleat {
namespace {

const nlohmann::json& parts_of(const nlohmann::json& description) {
  PLEAT_REQUIRE(description.contains("pretokenizers") && description["pretokenizers"].is_array(),
                "tokenizer.json: a Sequence pre_tokenizer has no pretokenizers");
  return description["pretokenizers"];
}

// Each part splits the words of the part before. What comes behind ByteLevel sees words in its alphabet.
class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(const nlohmann::json& description) {
    for (const nlohmann::json& part : parts_of(description)) {
      parts_.push_back(make_pretokenizer(part));
      PLEAT_REQUIRE(parts_.back(), "tokenizer.json: a part of a Sequence pre_tokenizer is null");
      if (is_byte_level(part) && byte_level_ == SIZE_MAX) byte_level_ = parts_.size() - 1;
    }
  }
  void split(std::string_view text, bool at_start, const Emit& emit) const override {
    split_from(0, text, at_start, emit);
  }

 private:
  void split_from(size_t part, std::string_view text, bool at_start, const Emit& emit) const {
    if (part == parts_.size()) return emit(text);
    bool first = at_start;
    parts_[part]->split(text, at_start, [&](std::string_view word) {
      if (part == byte_level_ && part + 1 < parts_.size()) {
        split_from(part + 1, to_byte_level(word), first,
                   [&](std::string_view piece) { emit(from_byte_level(piece).value_or(std::string(piece))); });
      } else {
        split_from(part + 1, word, first, emit);
      }
      first = false;
    });
  }
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
  size_t byte_level_ = SIZE_MAX;  // which part
};

}  // namespace

bool is_byte_level(const nlohmann::json& description) {
  if (!description.is_object() || !description.contains("type")) return false;
  if (description["type"] != "Sequence") return description["type"] == "ByteLevel";
  for (const nlohmann::json& part : parts_of(description))
    if (is_byte_level(part)) return true;
  return false;
}

std::unique_ptr<PreTokenizer> make_pretokenizer(const nlohmann::json& description) {
  if (description.is_null()) return nullptr;
  PLEAT_REQUIRE(description.is_object() && description.contains("type"),
                "tokenizer.json has a pre_tokenizer without type");
  const auto& type = description["type"];
  if (type == "ByteLevel") return std::make_unique<ByteLevelSplit>(description);
  if (type == "Sequence") return std::make_unique<PreTokenizerSequence>(description);
  if (type == "Metaspace") return std::make_unique<Metaspace>(description);
  if (auto split = make_split(description)) return split;
  throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown pre_tokenizer ", type.dump()));
}

}  // namespace pleat
