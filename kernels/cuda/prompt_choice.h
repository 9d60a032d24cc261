#pragma once
// Neurons chosen for a sequence by its prompt and kept for its generation: core/engine/prompt_selection.h on a device,
// which says what scores are and who is chosen. Bits depend on the sequence's own rows and on a shard's neurons alone.
#include "kernels/cuda/device.h"
#include "kernels/cuda/selection.h"

namespace pleat::cuda {

// A prompt's rows of a pass, a sequence's in order of positions. All on the device.
struct PromptRows {
  int count = 0;
  const int32_t* positions = nullptr;  // [count] 0: the sequence begins anew
  const int32_t* slots = nullptr;      // [count] whose row it is
  const int32_t* ends = nullptr;       // [count] not 0: its prompt's last row
};

// A rank's neurons of a layer in virtual shards, each of which chooses among its own.
struct Shards {
  const int32_t* offsets = nullptr;  // [count + 1] neurons, on the device
  int count = 0, neurons = 0, largest = 0;
};

// What stays of the prompts.
struct PromptScores {
  float* scores = nullptr;    // [slots, neurons]
  uint8_t* chosen = nullptr;  // [slots, neurons]
};

// out [rows, neurons] = slope z + intercept, plus gate_slope g where there is a gate.   up: z or u; gate: nullptr where
// the FFN is plain
void lines_of(StreamHandle stream, int rows, int neurons, const float* up, const float* gate, const DeviceLines& lines,
              float* out);
// line = (act - line) factor, element by element of [rows, neurons].
void missed_by_lines(StreamHandle stream, int rows, int neurons, const float* act, const float* factor, float* line);

// out [shards][rows] = the sum over a shard's neurons of value squared.   values [rows, neurons]
void shard_squares(StreamHandle stream, int rows, const Shards& shards, const float* values, float* out);

// marks [rows, neurons] = 1 for the llround(share n) largest |value| of each row and shard of n, the lower neuron first
// among equals, else 0.
void mark_cores(StreamHandle stream, int rows, const Shards& shards, double share, const float* values, float* marks);

// scores += mark, or where there are squared norms [rows] of whole rows value^2 / norm, row after row.
void add_scores(StreamHandle stream, const PromptRows& rows, int neurons, const float* values,
                const float* squared_norms, const PromptScores& to);

// Where a prompt ends: the llround(share n) neurons of each shard with the highest scores.
void choose(StreamHandle stream, const PromptRows& rows, const Shards& shards, double share, const PromptScores& of);

}  // namespace pleat::cuda
