#pragma once
// The weight formats of GGUF files: blocks of values that share scales (ggml's layouts, all little-endian).
#include <cstddef>
#include <cstdint>
#include <string>

namespace pleat {

struct BlockFormat {
  const char* name;
  int values;  // of a block
  int bytes;   // of a block
  void (*unpack)(const uint8_t* block, float* values);
};

// By ggml's type number: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K; nullptr for others.
const BlockFormat* block_format(uint32_t ggml_type);

// The name of a type that has no BlockFormat.
std::string ggml_type_name(uint32_t ggml_type);

}  // namespace pleat
