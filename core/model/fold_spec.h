#pragma once
// What a folded checkpoint carries beside the original tensors, and under which names (docs/folding.md, method.md
// sections 1-3).
//
// For every layer, under "pleat.layers.<l>." (the first four always; then by selection):
//   fold.weight       BF16 [d, d]              C, [in, out]              (fold_format bf16)
//   fold.codes        I8   [d, d]              C = codes * scale         (fold_format int8)
//   fold.scales       BF16 [ceil(d/64), d]     one scale per 64 inputs and output
//   fold.bias         F32  [d]                 B
// selection range:
//   predictor.codes   U8   [h, ceil(d*bits/8)] see kernels/predictor.h
//   predictor.scale   BF16 [h, ceil(d/64)]
//   predictor.minimum BF16 [h, ceil(d/64)]
//   range.low, range.high   F32 [h]            of z~, margin included; -inf / +inf where open
//   slope, intercept        F32 [h]            a, c
// selection gate (gated FFNs, method.md section 4): the exact gate decides, score = |act(g) - c| factor
//   slope, gate_slope, intercept  F32 [h]      c, e, f
//   factor            F32 [h]                  rms(u_n) |W_down[n]|
//   threshold         F32 [1]                  of the score; above: exact
// The FFN tensors of the folder stand in the fold's neuron order, so that each of the kVirtualShards contiguous parts
// expects the same fallback work; a dense reader sees the same function.
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "kernels/matmul.h"

namespace pleat {

enum class SelectionKind : uint8_t { range, gate };

struct FoldSpec {
  SelectionKind selection = SelectionKind::range;
  int predictor_bits = 2;                         // of selection range
  WeightFormat fold_format = WeightFormat::int8;  // int8 or bf16
  double reduction = 0;  // share of FFN weight bytes no longer read per token, on calibration text

  static std::string name(int layer, const char* tensor);  // "pleat.layers.3.fold.bias"
};

// Bytes of FFN weights one layer reads per decode step (method.md section 3), everything counted.
struct FfnBytes {
  int64_t dense = 0;  // the two or three matrices in bf16
  int64_t fixed =
      0;  // whatever is predicted: C and its scales, B, predictor and its scales, b1 and the ranges of all neurons
  int64_t per_neuron = 0;  // a gathered neuron: its two rows (bf16) and its line
  int64_t shared = 0;      // of `fixed`, what is part of `dense` (the gate)
  int64_t stored() const { return dense + fixed - shared + stored_lines; }
  int64_t stored_lines = 0;  // the lines of all neurons
};
FfnBytes ffn_bytes(const FoldSpec& spec, int64_t hidden, int64_t neurons);

std::string_view name_of(SelectionKind selection);

// The safetensors metadata entry "fold" (a JSON object as text).
std::string to_metadata(const FoldSpec& spec);
FoldSpec fold_spec_from_metadata(const std::string& text);  // Error(invalid)

}  // namespace pleat
