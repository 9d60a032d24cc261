#pragma once
// Cut keys of the device's cache (core/engine/key_channels.h). Who is kept is decided on the host, once a prompt.
#include <optional>
#include <span>
#include <vector>

#include "core/engine/key_channels.h"
#include "core/engine/step_plan.h"
#include "kernels/cuda/key_channels.h"
#include "parallel/device/device_sum.h"

namespace pleat {

class DeviceKeyChannels {
 public:
  DeviceKeyChannels(const KeyChannelSizes& sizes, const ShardPlan& plan, int rank, int64_t cache_pages);

  bool on() const { return channels_.on(); }
  // Once a step, rows in the order in which they are taken. Passes must not go beyond the runs.
  void plan_step(const StepPlan& step_plan, std::span<const int32_t> ordered);
  std::span<const KeyChannels::Run> runs() const { return channels_.runs(); }
  bool observes(int64_t row) const { return channels_.observes(row); }

  // Before the first pass of a run: in every layer, enqueues the cut of what is older now.
  void cut(const KeyChannels::Run& run, std::span<const KvCache> caches, cuda::StreamHandle stream);

  // The pass of rows [begin, begin + count).
  void begin_pass(int64_t begin, int64_t count);
  bool chooses() const { return !ends_.empty(); }  // waits for the stream: no graph may capture the pass

  // In every layer of a pass, behind append_kv().   table_of(row of the pass): its page table on the device
  void observe(int layer, MatrixView<const float> q, const cuda::ObservedRows& rows, cuda::StreamHandle stream);
  template <class TableOf>
  void choose(int layer, const KvCache& cache, TableOf table_of, Communicator& communicator, DeviceSum& sum,
              const cuda::Stream& stream) {
    if (ends_.empty()) return;
    tables_.clear();
    for (const PromptEnd& end : ends_) tables_.push_back(table_of(end.row - pass_begin_));
    choose(layer, cache, communicator, sum, stream);
  }

 private:
  void choose(int layer, const KvCache& cache, Communicator& communicator, DeviceSum& sum, const cuda::Stream& stream);
  float* page_sums(int layer, int slot) const {
    return page_sums_.data() + (int64_t(layer) * slots_ + slot) * int64_t(host_sums_.size());
  }

  KeyChannels channels_;
  int64_t slots_;
  std::vector<StepRow> rows_;
  std::vector<AttentionRow> attention_rows_;
  int64_t pass_begin_ = 0;
  std::span<const PromptEnd> ends_;     // of the pass
  std::vector<const int32_t*> tables_;  // [ends]
  cuda::PinnedArray<int32_t> host_pages_;
  cuda::DeviceArray<int32_t> pages_;  // [2][pages of the cache] pages, slots
  cuda::DeviceArray<int32_t> kept_;   // [layers][slots][kv heads][kept_count]
  cuda::DeviceArray<float> page_sums_;
  cuda::PinnedArray<float> host_sums_;  // of a slot
  cuda::DeviceArray<double> energies_;
  cuda::PinnedArray<double> host_energies_;
};

}  // namespace pleat
