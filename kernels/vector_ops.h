#pragma once
// The inner loops that are written once over a Lanes type (lanes_portable.h) and compiled for each instruction set.
// Everything here runs on the calling thread; same bits from every table.
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/dtype.h"
#include "kernels/low_bit_row.h"

namespace pleat {

// A sequence's rows that attention() takes together at most, and at least if not one by one.
constexpr int kAttentionRows = 32;
constexpr int kLeastAttentionRows = 8;
constexpr int kAttentionWork = 32 + 3 * kAttentionRows;  // rows of work space
constexpr int64_t attention_padding(int64_t head_size) { return head_size / 16 * 16 + 16; }

// One head of one row, or of up to kAttentionRows of one sequence, with one whole_begin.
struct AttentionTask {
  const float* q = nullptr;  // [count, head_size]
  int64_t q_stride = 0;
  float* out = nullptr;  // [count, head_size]
  int64_t out_stride = 0;
  const KvCache* cache = nullptr;
  const AttentionRow* rows = nullptr;  // [count]
  int count = 0;
  int kv_head = 0;
  int q_head = 0;
  const AttentionScores* scores = nullptr;
  float* work = nullptr;  // [kAttentionWork, attention_padding(head_size)]
};

// A neuron's dot products with the rows of x in the mask `rows`: out[i] belongs to the i-th set bit.
struct NeuronDots {
  const float* x = nullptr;
  int64_t stride = 0;
  uint32_t rows = 0;
  const void* weights = nullptr;  // [width]
  const void* next = nullptr;     // [width], fetched ahead
  DType dtype = DType::f32;
  int64_t width = 0;
  float* out = nullptr;
};

// out[row] += factors[i] * weights, row being the i-th set bit of `rows`.
struct AddNeuron {
  const float* factors = nullptr;
  uint32_t rows = 0;
  const void* weights = nullptr;  // [width]
  const void* next = nullptr;     // [width], fetched ahead
  DType dtype = DType::f32;
  int64_t width = 0;
  float* out = nullptr;
  int64_t stride = 0;
};

// NeuronDots of many neurons whose rows are low-bit, and quantised x; protected inputs are left to the caller.
struct LowBitDots {
  const int8_t* q = nullptr;         // [rows, groups * 64] in the order of low_bit_row.h
  const float* scales = nullptr;     // [rows, slots] s
  const float* sums = nullptr;       // [rows, slots] s * sum(q)
  int64_t slots = 0;                 // groups rounded up to 16
  const int32_t* neurons = nullptr;  // [count], and those that come after up to [listed]
  const uint32_t* masks = nullptr;   // [count] of rows of x
  int64_t count = 0, listed = 0;
  int64_t ahead = 1;  // neurons before its turn a row is fetched
  int bits = 4;
  int64_t groups = 0;
  LowBitRow weights;  // of neuron 0
  int64_t row_bytes = 0;
  float* out = nullptr;  // [count][out_stride], of each neuron as many as its mask has bits
  int64_t out_stride = 0;
};

// out [rows, width] += the sum over low-bit neurons: see fix_up(). rows * round_up(width, 64) <= kMaxLowBitSums, and
// rows above 16 for at most 512 columns.
inline constexpr int64_t kMaxLowBitSums = 16384;
struct AddLowBit {
  const int32_t* neurons = nullptr;  // [count]
  const uint32_t* masks = nullptr;   // [count] bit m: row m adds it
  const float* factors = nullptr;    // [count][rows], of each neuron as many as its mask has bits
  int64_t count = 0;
  int64_t rows = 0;
  int bits = 4;
  LowBitRow weights;  // of neuron 0, from a group on
  int64_t row_bytes = 0;
  int64_t width = 0;
  float* out = nullptr;
  int64_t stride = 0;
};

// out [rows, columns] = the weights from column `column` on of rows `row_bytes` apart. column, columns: multiples of
// 16.
struct UnpackLowBit {
  int bits = 4;
  LowBitRow weights;
  int64_t row_bytes = 0;
  int64_t rows = 0;
  int64_t column = 0;
  int64_t columns = 0;
  float* out = nullptr;
  int64_t stride = 0;
};

// 16 outputs of a LowBitMatrix over `groups` groups of inputs (see LowBitAccess for the layout).
struct LowBitBlock {
  const uint8_t* codes = nullptr;
  const bf16* scales = nullptr;
  int bits = 2;
  int64_t groups = 0;
  int64_t stride = 0;  // groups from one row of q to the next
  int rows = 0;
  const int8_t* q = nullptr;        // [rows, stride * 64]
  const int32_t* q_sums = nullptr;  // [rows, stride]
  const float* q_scales = nullptr;  // [rows, stride]
  float* y = nullptr;               // [rows, 16]
};

// 64 outputs of a PlanesMatrix over `groups` groups of inputs (see planes_blocks.h for the layout).
struct PlanesBlock {
  const uint8_t* records = nullptr;
  const float* units = nullptr;  // [groups] 2^e
  int planes = 2;
  bool by_column = true;  // scales by column, not by block
  int64_t groups = 0;
  int64_t stride = 0;  // groups from one row of q to the next
  int rows = 0;
  const int8_t* q = nullptr;        // [rows, stride * 64]
  const float* q_scales = nullptr;  // [rows, stride]
  float* y = nullptr;               // [rows, 64]
};

struct VectorOps {
  void (*activate)(Activation activation, float* x, int64_t n);
  void (*soft_cap)(float cap, float* x, int64_t n);
  // y *= x
  void (*multiply_row)(const float* x, float* y, int64_t n);

  // y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias; bias may be nullptr, y may be x.
  void (*layer_norm_row)(const float* x, const float* weight, const float* bias, float eps, float* y, int64_t n);
  // y = x / sqrt(mean(x^2) + eps) * weight; y may be x.
  void (*rms_norm_row)(const float* x, const float* weight, float eps, float* y, int64_t n);
  // y += x (+ bias)
  void (*add_row)(const float* x, const float* bias, float* y, int64_t n);
  void (*to_bf16)(const float* x, bf16* y, int64_t n);
  void (*round_to_bf16)(const float* x, float* y, int64_t n);

  void (*attend)(const AttentionTask& task);

  void (*neuron_dots)(const NeuronDots& task);
  void (*add_neuron)(const AddNeuron& task);

  void (*low_bit_dots)(const LowBitDots& task);
  void (*add_low_bit)(const AddLowBit& task);
  void (*unpack_low_bit)(const UnpackLowBit& task);

  // A group's n <= 64 activations as int8 q [64], zeros from n on: see low_bit.h.
  void (*quantise)(const float* x, int64_t n, int8_t* q, int32_t& sum, float& scale);
  void (*low_bit_block)(const LowBitBlock& task);
  void (*planes_block)(const PlanesBlock& task);

  float (*stream_sum)(const float* data, int64_t n);  // n a multiple of 64
};

const VectorOps& vector_ops(Isa isa);

}  // namespace pleat
