#pragma once
// What the families of Llama's shape share.
#include "core/model/blueprint.h"
#include "core/model/families/part_table.h"

namespace pleat {

class Config;

struct LlamaBiases {
  bool query_key_value = false, attention_output = false, ffn = false;
};

Blueprint llama_like(const Config& config);  // all but `source`
PartTable llama_parts(const Checkpoint& checkpoint, const Blueprint& blueprint, const LlamaBiases& biases);

}  // namespace pleat
