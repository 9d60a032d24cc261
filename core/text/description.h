#pragma once
#include <cstdint>

#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {

// A yes-or-no option of a part of tokenizer.json.
inline bool json_flag(const nlohmann::json& description, const char* key, bool otherwise) {
  const auto found = description.find(key);
  if (found == description.end()) return otherwise;
  PLEAT_REQUIRE(found->is_boolean(), "tokenizer.json: '", key, "' is neither true nor false");
  return found->get<bool>();
}

// A text that a part of tokenizer.json must have.
inline std::string json_text(const nlohmann::json& description, const char* key) {
  const auto found = description.find(key);
  PLEAT_REQUIRE(found != description.end() && found->is_string(), "tokenizer.json: a part has no text '", key, "'");
  return found->get<std::string>();
}

// Larger ids would make the tables by id too large for a file that lies; the largest vocabularies have a tenth of it.
constexpr int64_t kTokenIdLimit = int64_t(1) << 22;

inline bool is_token_id(const nlohmann::json& value) {
  return value.is_number_integer() && value.get<int64_t>() >= 0 && value.get<int64_t>() < kTokenIdLimit;
}

}  // namespace pleat
