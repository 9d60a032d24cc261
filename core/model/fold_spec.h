#pragma once
// What a folded checkpoint carries beside the original tensors, and under which names (docs/folding.md, method.md
// sections 1-3).
//
// For every layer, under "pleat.layers.<l>." (the first four always; then by selection):
//   fold.weight       BF16 [d, d]              C, [in, out]              (fold_format bf16)
//   fold.codes        U8   [d, d]              C^T, [out, in], 8 bits (kernels/low_bit.h; fold_format int8)
//   fold.scale        BF16 [d, ceil(d/64)]
//   fold.bias         F32  [d]                 B
// selection range:
//   predictor.codes   U8   [h, ceil(d*bits/8)] see kernels/low_bit.h
//   predictor.scale   BF16 [h, ceil(d/64)]
//   predictor.minimum BF16 [h, ceil(d/64)]
//   range.low, range.high   F32 [h]            of z~, margin included; -inf / +inf where open
//   slope, intercept        F32 [h]            a, c
// selection gate (gated FFNs, method.md section 4): the exact gate decides, score = |act(g) - c| factor
//   slope, gate_slope, intercept  F32 [h]      c, e, f
//   factor            F32 [h]                  rms(u_n) |W_down[n]|
//   threshold         F32 [1]                  of the score; above: exact
// selection predictor (gated FFNs): score = |act(g~) u~ - (c u~ + e g~ + f)| factor
//   predictor.*, gate_predictor.*              of W_up and W_gate, as above
//   slope, gate_slope, intercept, threshold    as above
//   factor            F32 [h]                  |W_down[n]|
// The FFN tensors of the folder stand in the fold's neuron order, so that each of the kVirtualShards contiguous parts
// expects the same fallback work; a dense reader sees the same function.
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "kernels/matmul.h"

namespace pleat {

enum class SelectionKind : uint8_t { range, gate, predictor };

struct FoldSpec {
  SelectionKind selection = SelectionKind::range;
  int predictor_bits = 2;                         // of selections range and predictor
  WeightFormat fold_format = WeightFormat::int8;  // int8 or bf16
  double reduction = 0;  // share of FFN weight bytes no longer read per token, on calibration text

  static std::string name(int layer, const char* tensor);  // "pleat.layers.3.fold.bias"
};

// Bytes of FFN weights one layer reads per decode step (method.md section 3), everything counted.
struct FfnBytes {
  int64_t dense = 0;         // the two or three matrices in bf16
  int64_t fixed = 0;         // whoever is selected: C with scales, B, what the selection reads of all neurons
  int64_t per_neuron = 0;    // a gathered neuron: its rows (bf16) and what else only the exact ones need
  int64_t shared = 0;        // of `fixed`, what is part of `dense` (the gate)
  int64_t stored_lines = 0;  // of all neurons, the numbers beside the rows that only exact ones read
  int64_t stored() const { return dense + fixed - shared + stored_lines; }
};
FfnBytes ffn_bytes(const FoldSpec& spec, int64_t hidden, int64_t neurons);

bool has_predictor(SelectionKind selection);  // low-bit copies that are read for every token
bool is_for_gated(SelectionKind selection);   // of gated FFNs; else of plain ones
std::string_view name_of(SelectionKind selection);
SelectionKind selection_named(std::string_view name);  // Error(invalid)

// The safetensors metadata entry "fold" (a JSON object as text).
std::string to_metadata(const FoldSpec& spec);
FoldSpec fold_spec_from_metadata(const std::string& text);  // Error(invalid)

}  // namespace pleat
