#pragma once
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

}  // namespace pleat
