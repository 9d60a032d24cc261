#include "core/text/token_model.h"

#include <cstdio>

#include "core/text/bpe.h"
#include "core/text/unigram.h"
#include "kernels/check.h"

namespace pleat {

std::unique_ptr<TokenModel> make_token_model(const nlohmann::json& description, bool byte_level) {
  PLEAT_REQUIRE(description.is_object(), "tokenizer.json has no model");
  // Older files leave the type out: those with merges are BPE.
  const nlohmann::json type = description.value("type", nlohmann::json(description.contains("merges") ? "BPE" : ""));
  if (type == "BPE") return std::make_unique<Bpe>(description, byte_level);
  if (type == "Unigram") return std::make_unique<Unigram>(description);
  throw Error(ErrorKind::unimplemented, concat("tokenizer.json asks for the unknown model ", type.dump()));
}

ByteTokens::ByteTokens(const std::unordered_map<std::string, int32_t>& vocabulary) {
  for (int byte = 0; byte < 256; ++byte) {
    char entry[8];
    std::snprintf(entry, sizeof(entry), "<0x%02X>", unsigned(byte));
    const auto found = vocabulary.find(entry);
    ids_[byte] = found == vocabulary.end() ? -1 : found->second;
  }
}

bool ByteTokens::append(std::string_view bytes, std::vector<int32_t>& ids) const {
  for (const char byte : bytes)
    if (ids_[uint8_t(byte)] < 0) return false;
  for (const char byte : bytes) ids.push_back(ids_[uint8_t(byte)]);
  return true;
}

int byte_of_entry(std::string_view entry) {
  if (entry.size() != 6 || !entry.starts_with("<0x") || entry[5] != '>') return -1;
  int value = 0;
  for (const char c : entry.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9', letter = c >= 'A' && c <= 'F';
    if (!digit && !letter) return -1;
    value = value * 16 + (digit ? c - '0' : c - 'A' + 10);
  }
  return value;
}

}  // namespace pleat
