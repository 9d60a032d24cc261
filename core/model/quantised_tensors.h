#pragma once
// Which tensors a checkpoint holds in low bits. Tensor T [out, in] (or [in, out], turned) then stands as
//   T.codes    U8   [out, ceil(in * bits / 8)]
//   T.scale    BF16 [out, ceil(in / 64)]
//   T.minimum  BF16 [out, ceil(in / 64)]      not at 8 bits
//   T.protected          I32  [k]             inputs held in bf16, ascending; where there are any
//   T.protected_weights  BF16 [out, k]
// (kernels/low_bit.h), or in planes as
//   T.codes          U8  [out, ceil(in * planes / 8)]
//   T.column_scales  U8  [ceil(out / 64), in * planes]           or
//   T.block_scales   U8  [ceil(out / 8), ceil(in / 8) * planes]
//   T.exponents      I8  [ceil(out / 64), ceil(in / 64)]
//   T.protected, T.protected_weights as above
// (kernels/planes.h; of neurons that are gathered T.codes, T.scale, T.minimum and
//   T.row_scales  U8  [out, ceil(in / 64) * planes]
// as kernels/low_bit_row.h says), and the safetensors metadata entry "quantised" is a JSON object {"version": 1,
// "tensors": {T: "int4", ...}} as text.
#include <map>
#include <string>

#include "kernels/matmul.h"

namespace pleat {

using QuantisedTensors = std::map<std::string, WeightFormat>;

std::string to_metadata(const QuantisedTensors& tensors);
QuantisedTensors quantised_tensors_from_metadata(const std::string& text);  // Error(invalid)

}  // namespace pleat
