#pragma once
// The special tokens that a model expects around a text.
#include <cstdint>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat {

struct SpecialFrame {
  std::vector<int32_t> before, after;
};

// From the "post_processor" of a tokenizer.json: TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel
// (none), or a Sequence of them; null: none.
SpecialFrame read_special_frame(const nlohmann::json& description);

}  // namespace pleat
