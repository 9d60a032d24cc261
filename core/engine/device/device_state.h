#pragma once
// A device step's insides: device_step.cpp (order of things, attention), device_ffn.cpp.
#include "core/engine/device/device_step.h"
#include "core/engine/device/device_weights.h"
#include "kernels/cuda/kv_append.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/kv_cache.h"

namespace pleat {

// The numbers of a rotary embedding on the device.
struct RotaryOnDevice {
  DeviceVector frequency;
  cuda::DeviceRotary rule;
};

// The order of a step's launches. A name in the plural is an array of the rows' values on the device.
struct DeviceStep::State {
  State(const Blueprint& blueprint, const Weights& host, int64_t kv_tokens);

  // Rows [begin, end) of a plan: at most kMaxRows, all folded or none.
  void pass(const StepPlan& plan, int begin, int end);
  void upload_rows(const StepPlan& plan, int begin, int end);
  void embed();
  void add_norm(const float* x, const DeviceNorm& norm);  // residual += x; normed = norm(residual)
  void attend(int layer);                                 // normed -> attention_out
  void ffn(const DeviceLayer& layer, bool folded);        // normed -> ffn_out
  void dense_ffn(const DeviceLayer& layer);
  void gathered_ffn(const DeviceLayer& layer, bool folded);
  void select(const DeviceLayer& layer, const cuda::RowInput& input, const cuda::DeviceSelection& selection);
  void fix_up(const DeviceLayer& layer, const cuda::RowInput& input, const cuda::DeviceSelection& selection,
              bool folded);
  void read_logits(const StepPlan& plan, int begin, int end);

  // Quantised for w where that is in low bits.
  cuda::RowInput input(const DeviceVector& x, int width, const cuda::Rows& w);
  cuda::StreamHandle handle() const { return stream.get(); }

  Blueprint blueprint;
  cuda::Stream stream;
  DeviceWeights weights;
  int d, q_width, kv_width, vocab, neurons = 0;
  std::vector<int> kv_of_head;
  std::vector<RotaryOnDevice> rotaries;
  DeviceVector slopes;
  cuda::DeviceArray<std::byte> cache_memory;
  std::vector<KvCache> caches;
  std::vector<cuda::DeviceSelection> selections;  // [layers]

  int rows = 0, positions_end = 0;  // of a pass: rows, and where the longest of them ends
  cuda::PagedRows paged;
  std::vector<int32_t> host_tokens, host_positions, host_tables;
  cuda::DeviceArray<int32_t> tokens, positions, table_of, tables;
  DeviceVector residual, normed, query_key_value, attended, attention_out, ffn_out, up, gate, parts, attention_work,
      device_logits;
  cuda::QuantisedRows by_hidden, by_neurons, by_heads;
  std::vector<float> host_logits, logits;
};

}  // namespace pleat
