#pragma once
// What a folded checkpoint carries beside the original tensors, and under which names (docs/folding.md, method.md
// sections 1-6). Every layer has its own selection: who is computed exactly.
//
// Of every layer whose selection is not `all`, or whose inputs are cut, under "pleat.layers.<l>.":
// where it has lines:
//   fold.weight       BF16 [d, d]              C, [in, out]              (fold_format bf16)
//   fold.codes        U8   [d, d]              C^T, [out, in], 8 bits (kernels/low_bit.h; fold_format int8)
//   fold.scale        BF16 [d, ceil(d/64)]
//   slope, intercept  F32  [h]                 a, c; gated: c, f          not of selection static
//   gate_slope        F32  [h]                 e                          gated, not of selection static
// always:
//   fold.bias         F32  [d]                 B; without lines the FFN's own bias
// selection range (plain FFNs): exact outside of its range
//   predictor.codes   U8   [h, ceil(d*bits/8)] see kernels/low_bit.h
//   predictor.scale   BF16 [h, ceil(d/64)]
//   predictor.minimum BF16 [h, ceil(d/64)]
//   range.low, range.high   F32 [h]            of z~, margin included; -inf / +inf where open
// selection gate (gated FFNs, method.md section 4): the exact gate decides, score = |act(g) - center| factor
//   center, factor    F32 [h]                  c of a fold, else 0; rms(u_n) |W_down[n]|
//   threshold         F32 [1]                  of the score; above: exact
// selection predictor (gated FFNs): score = |act(g~) u~ - (c u~ + e g~ + f)| factor
//   predictor.*, gate_predictor.*              of W_up and W_gate, as above
//   factor            F32 [h]                  |W_down[n]|
//   threshold         F32 [1]
// selection threshold (CATS, arXiv 2404.08763: |act(g)|; plain FFNs TEAL's, arXiv 2408.14690: |act(z)|)
//   threshold         F32 [1]                  with cut inputs, where u is known too, of |act(g) u|
// selections prompt (GRIFFIN, arXiv 2404.01365) and core (CoreInfer, arXiv 2410.18311): each sequence's own neurons,
// chosen by its prompt (core/engine/prompt_selection.h)
//   factor            F32 [h]                  prompt with lines: |W_down[n]|
// selection static: the layer's FFN tensors hold `neurons` neurons, each exact for every token, prompts too; C stands
// for all the others
// inputs cut (TEAL, arXiv 2408.14690; selections all, threshold and static): gate and up, of plain FFNs W1, see of a
// generated token's x (static: of every token's) only the inputs above a threshold; C sees them all
//   input_threshold   F32 [1]                  of |x_i|
// The FFN tensors of the folder stand in the fold's neuron order, so that each of the kVirtualShards contiguous parts
// expects the same fallback work (with cut inputs in the model's own order); a dense reader sees the same function.
// They may be in low bits (core/model/quantised_tensors.h); where neurons are gathered, the down matrix then stands by
// neuron: T.codes [h, ceil(d*bits/8)], T.scale and T.minimum [h, ceil(d/64)], T.protected I32 [k] neurons held in bf16,
// T.protected_weights BF16 [k, d]. In the same way gate and up, or W1, stand by input where inputs are cut: T.codes [d,
// ceil(h*bits/8)] ...
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "kernels/matmul.h"

namespace pleat {

enum class SelectionKind : uint8_t { all, range, gate, predictor, threshold, prompt, core, hot };  // hot: "static"

struct LayerFoldSpec {
  SelectionKind selection = SelectionKind::all;
  bool lines = true;                              // who is not exact follows its line; false: is left out
  int predictor_bits = 2;                         // of selections range and predictor
  WeightFormat fold_format = WeightFormat::int8;  // int8 or bf16
  double share = 0;                               // of a sequence's neurons that prompt and core take, 0 to 1
  int64_t neurons = 0;                            // that static keeps
  bool cuts_inputs = false;                       // of gate and up, or W1, which then stand by input
  bool operator==(const LayerFoldSpec&) const = default;
};

struct FoldSpec {
  std::vector<LayerFoldSpec> layers;
  double reduction = 0;  // share of FFN weight bytes no longer read per token, on calibration text

  static std::string name(int layer, const char* tensor);  // "pleat.layers.3.fold.bias"
};

// How a layer's FFN matrices are held.
struct FfnFormats {
  WeightFormat gate = WeightFormat::bf16, up = WeightFormat::bf16, down = WeightFormat::bf16;
  bool operator==(const FfnFormats&) const = default;
};

// Bytes of FFN weights one layer reads per decode step (method.md section 3), everything counted.
struct FfnBytes {
  int64_t dense = 0;       // the two or three matrices in bf16
  int64_t fixed = 0;       // whoever is selected: C with scales, B, what the selection reads of all neurons
  int64_t per_neuron = 0;  // a gathered neuron: its rows and what else only the exact ones need
  int64_t per_input = 0;   // where inputs are cut: one input's weights to all neurons
  int64_t stored = 0;      // everything kept
};
// Inputs of the low-bit matrices that are held in bf16 beside them; of down these are neurons.
struct ProtectedCounts {
  int64_t gate = 0, up = 0, down = 0;
};
FfnBytes ffn_bytes(const LayerFoldSpec& spec, const FfnFormats& formats, bool gated, int64_t hidden, int64_t neurons,
                   const ProtectedCounts& kept = {});

bool has_predictor(SelectionKind selection);  // low-bit copies that are read for every token
bool gathers(SelectionKind selection);        // rows of selected neurons; else whole matrices are read
bool by_prompt(SelectionKind selection);      // each sequence's own set, fixed at the end of its prompt
bool is_for(SelectionKind selection, bool gated);
bool can_cut_inputs(SelectionKind selection);  // gathers no rows of gate and up, or W1
std::string_view name_of(SelectionKind selection);
SelectionKind selection_named(std::string_view name);  // Error(invalid)
std::string selection_names(bool gated);               // those for such FFNs, "range, threshold, ..."

// The safetensors metadata entry "fold" (a JSON object as text).
std::string to_metadata(const FoldSpec& spec);
FoldSpec fold_spec_from_metadata(const std::string& text);  // Error(invalid)

}  // namespace pleat
