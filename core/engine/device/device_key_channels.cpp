#include "core/engine/device/device_key_channels.h"

#include <algorithm>

namespace pleat {

DeviceKeyChannels::DeviceKeyChannels(const KeyChannelSizes& sizes, const ShardPlan& plan, int rank, int64_t cache_pages)
    : channels_(sizes, plan, rank),
      slots_(sizes.slots),
      host_pages_(on() ? size_t(2 * cache_pages) : 0),
      pages_(host_pages_.size()),
      kept_(on() ? size_t(sizes.layers * sizes.slots * plan.kv_heads(rank).size() * sizes.kept()) : 0),
      page_sums_(on() ? size_t(sizes.layers * sizes.slots * kQueryPages * plan.heads(rank).size() * sizes.head_size)
                      : 0),
      host_sums_(on() ? size_t(kQueryPages * plan.heads(rank).size() * sizes.head_size) : 0),
      energies_(on() ? size_t(plan.kv_heads(rank).size() * sizes.head_size) : 0),
      host_energies_(energies_.size()) {}

void DeviceKeyChannels::plan_step(const StepPlan& step_plan, std::span<const int32_t> ordered) {
  rows_.clear();
  attention_rows_.clear();
  for (const int32_t i : ordered) {
    const StepRow& row = rows_.emplace_back(step_plan.rows[size_t(i)]);
    attention_rows_.push_back(
        {row.position, step_plan.page_tables[size_t(row.sequence)].data(), 0, step_plan.slots[size_t(row.sequence)]});
  }
  channels_.plan_step(rows_, attention_rows_);
}

void DeviceKeyChannels::cut(const KeyChannels::Run& run, std::span<const KvCache> caches, cuda::StreamHandle stream) {
  const int64_t most = int64_t(host_pages_.size()) / 2;
  int count = 0;
  for (const KeyCompaction& job : run.compactions)
    for (int64_t page = job.begin / kPageTokens; page < job.end / kPageTokens; ++page, ++count) {
      PLEAT_ASSERT(count < most, "more pages to cut than the cache has, ", most);
      host_pages_[size_t(count)] = job.page_table[page];
      host_pages_[size_t(most + count)] = job.slot;
    }
  if (count == 0) return;
  cuda::copy_to_device(pages_.data(), host_pages_.data(), pages_.size() * sizeof(int32_t), stream);
  const int64_t kept = int64_t(kept_.size()) / int64_t(caches.size());
  for (size_t layer = 0; layer < caches.size() && kept > 0; ++layer)
    cuda::drop_channels(stream, caches[layer], {count, pages_.data(), pages_.data() + most},
                        kept_.data() + int64_t(layer) * kept, int(channels_.kept_count()));
}

void DeviceKeyChannels::begin_pass(int64_t begin, int64_t count) {
  pass_begin_ = begin;
  const auto at = [&](int64_t row) { return std::ranges::lower_bound(channels_.ends(), row, {}, &PromptEnd::row); };
  ends_ = {at(begin), at(begin + count)};
}

void DeviceKeyChannels::observe(int layer, MatrixView<const float> q, const cuda::ObservedRows& rows,
                                cuda::StreamHandle stream) {
  if (on()) cuda::add_query_squares(stream, q, rows, int(kQueryPages), page_sums(layer, 0));
}

void DeviceKeyChannels::choose(int layer, const KvCache& cache, Communicator& communicator, DeviceSum& sum,
                               const cuda::Stream& stream) {
  struct OfTheDevice : KeyEnergies {
    OfTheDevice(DeviceKeyChannels& owner_, int layer_, const KvCache& cache_, DeviceSum& sum_,
                const cuda::Stream& stream_)
        : owner(owner_), layer(layer_), cache(cache_), sum(sum_), stream(stream_) {}
    const float* of_queries(const PromptEnd& end) override {
      cuda::PinnedArray<float>& to = owner.host_sums_;
      cuda::copy_to_host(to.data(), owner.page_sums(layer, end.slot), to.size() * sizeof(float), stream.get());
      sum.wait(stream);
      return to.data();
    }
    void of_keys(const PromptEnd& end, std::span<double> out) override {
      if (out.empty()) return;
      const int32_t* const table = owner.tables_[size_t(&end - owner.ends_.data())];
      cuda::key_energies(stream.get(), cache, table, int(end.tokens), owner.energies_.data());
      cuda::copy_to_host(owner.host_energies_.data(), owner.energies_.data(), out.size_bytes(), stream.get());
      sum.wait(stream);
      std::copy_n(owner.host_energies_.data(), out.size(), out.begin());
    }
    DeviceKeyChannels& owner;
    int layer;
    const KvCache& cache;
    DeviceSum& sum;
    const cuda::Stream& stream;
  };
  OfTheDevice energies(*this, layer, cache, sum, stream);
  channels_.choose(layer, ends_, energies, communicator);
  for (const PromptEnd& end : ends_) {
    const std::span<const int32_t> kept = channels_.kept_of(layer, end.slot);
    cuda::copy_to_device(kept_.data() + (int64_t(layer) * slots_ + end.slot) * int64_t(kept.size()), kept.data(),
                         kept.size_bytes(), stream.get());
  }
  sum.wait(stream);
}

}  // namespace pleat
