#include "core/checkpoint/block_formats.h"

#include <cstring>
#include <map>

#include "kernels/check.h"
#include "kernels/dtype.h"

namespace pleat {
namespace {

float half(const uint8_t* p) {
  f16 value;
  std::memcpy(&value, p, sizeof(value));
  return to_f32(value);
}

// d, [m,] [high bits,] 32 x 4 bits: value 0 to 15 in the low halves of the bytes, 16 to 31 in the high ones.
template <int bits, bool with_minimum>
void unpack_32(const uint8_t* block, float* values) {
  const float scale = half(block), minimum = with_minimum ? half(block + 2) : 0.0f;
  const uint8_t* next = block + (with_minimum ? 4 : 2);
  uint32_t high = 0;
  if (bits == 5) {
    std::memcpy(&high, next, sizeof(high));
    next += sizeof(high);
  }
  constexpr int kMiddle = with_minimum ? 0 : 1 << (bits - 1);
  uint8_t pairs[16];  // that no value overlaps
  std::memcpy(pairs, next, sizeof pairs);
  for (int half = 0; half < 2; ++half, values += 16)
    for (int i = 0; i < 16; ++i) {
      int code = (pairs[i] >> 4 * half & 15) - kMiddle;
      if constexpr (bits == 5) code += int(high >> (16 * half + i) & 1) << 4;
      values[i] = with_minimum ? scale * float(code) + minimum : scale * float(code);
    }
}

void unpack_q8_0(const uint8_t* block, float* values) {
  const float scale = half(block);
  for (int i = 0; i < 32; ++i) values[i] = scale * float(int8_t(block[2 + i]));
}

// Scale and minimum number `i` of 8, 6 bits each, in 12 bytes.
struct ScaleAndMinimum {
  int scale, minimum;
};
ScaleAndMinimum unpack_scale(const uint8_t* packed, int i) {
  if (i < 4) return {packed[i] & 63, packed[i + 4] & 63};
  return {(packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4, (packed[i + 4] >> 4) | (packed[i] >> 6) << 4};
}

// d, dmin, 12 bytes of scales, [32 bytes of fifth bits,] 256 x 4 bits in four runs of 64.
template <int bits>
void unpack_k(const uint8_t* block, float* values) {
  const float scale = half(block), minimum = half(block + 2);
  const uint8_t* high = block + 16;
  const uint8_t* low = bits == 5 ? high + 32 : high;
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum s = unpack_scale(block + 4, group);
    const float group_scale = scale * float(s.scale), group_minimum = minimum * float(s.minimum);
    for (int i = 0; i < 32; ++i) {
      const int byte = low[group / 2 * 32 + i];
      int code = group % 2 == 0 ? byte & 15 : byte >> 4;
      if (bits == 5) code += (high[i] >> group & 1) << 4;
      values[group * 32 + i] = group_scale * float(code) - group_minimum;
    }
  }
}

// 256 x 4 low bits, 256 x 2 high bits, 16 signed scales, d; in two halves of 128.
void unpack_q6_k(const uint8_t* block, float* values) {
  const float scale = half(block + 208);
  for (int part = 0; part < 2; ++part) {
    const uint8_t* low = block + part * 64;
    const uint8_t* high = block + 128 + part * 32;
    const uint8_t* scales = block + 192 + part * 8;
    for (int i = 0; i < 128; ++i) {
      const int column = i % 32, run = i / 32;
      const int four = run < 2 ? low[run * 32 + column] & 15 : low[(run - 2) * 32 + column] >> 4;
      const int code = (four | (high[column] >> (2 * run) & 3) << 4) - 32;
      values[part * 128 + i] = scale * float(int8_t(scales[run * 2 + column / 16])) * float(code);
    }
  }
}

}  // namespace

const BlockFormat* block_format(uint32_t ggml_type) {
  static constexpr BlockFormat q4_0{"Q4_0", 32, 18, unpack_32<4, false>}, q4_1{"Q4_1", 32, 20, unpack_32<4, true>},
      q5_0{"Q5_0", 32, 22, unpack_32<5, false>}, q5_1{"Q5_1", 32, 24, unpack_32<5, true>},
      q8_0{"Q8_0", 32, 34, unpack_q8_0}, q4_k{"Q4_K", 256, 144, unpack_k<4>}, q5_k{"Q5_K", 256, 176, unpack_k<5>},
      q6_k{"Q6_K", 256, 210, unpack_q6_k};
  switch (ggml_type) {
    case 2:
      return &q4_0;
    case 3:
      return &q4_1;
    case 6:
      return &q5_0;
    case 7:
      return &q5_1;
    case 8:
      return &q8_0;
    case 12:
      return &q4_k;
    case 13:
      return &q5_k;
    case 14:
      return &q6_k;
    default:
      return nullptr;
  }
}

std::string ggml_type_name(uint32_t ggml_type) {
  static const std::map<uint32_t, const char*> names = {
      {9, "Q8_1"},   {10, "Q2_K"},   {11, "Q3_K"},  {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
      {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"}, {23, "IQ4_XS"},  {24, "I8"},     {25, "I16"},
      {26, "I32"},   {27, "I64"},    {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"},  {39, "MXFP4"}};
  const auto found = names.find(ggml_type);
  return found == names.end() ? concat("number ", ggml_type, " of ggml") : found->second;
}

}  // namespace pleat
