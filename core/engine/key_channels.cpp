#include "core/engine/key_channels.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/check.h"

namespace pleat {

int64_t KeyChannelSizes::kept() const { return std::max<int64_t>(1, std::llround(share * double(head_size))); }

KeyChannels::KeyChannels(const KeyChannelSizes& sizes, const ShardPlan& plan, int rank)
    : sizes_(sizes), rank_(rank), kv_heads_(plan.kv_heads(rank)), kept_count_(sizes.kept()) {
  PLEAT_REQUIRE(sizes.share > 0 && sizes.share <= 1, "the share of key channels is ", sizes.share,
                ", expected more than 0 and at most 1");
  for (int other = 0; other < plan.ranks(); ++other) heads_.push_back(plan.heads(other));
  const size_t max_rows = size_t(sizes_.max_rows);
  runs_.reserve(max_rows);
  if (!on()) return;
  const int64_t width = heads_[size_t(rank_)].size() * sizes_.head_size;
  const int64_t max_ends = std::min(sizes_.slots, sizes_.max_rows);
  sequences_.resize(size_t(sizes_.slots));
  kept_.resize(size_t(sizes_.layers * sizes_.slots * kv_heads_.size() * kept_count_));
  ends_.reserve(size_t(max_ends));
  observed_.resize(max_rows);
  compactions_.reserve(max_rows);
  mine_.resize(size_t(max_ends * width));
  int64_t all_heads = 0;
  for (const Range& heads : heads_) all_heads += heads.size();
  all_.resize(size_t(max_ends * all_heads * sizes_.head_size));
  gather_bytes_.resize(heads_.size());
  key_energies_.resize(size_t(kv_heads_.size() * sizes_.head_size));
  scores_.resize(size_t(sizes_.head_size));
  order_.resize(size_t(sizes_.head_size));
}

void KeyChannels::share(std::span<KvCache> caches) {
  if (!on()) return;
  page_sums_.resize(
      size_t(sizes_.layers * sizes_.slots * kQueryPages * heads_[size_t(rank_)].size() * sizes_.head_size));
  for (size_t layer = 0; layer < caches.size(); ++layer) {
    caches[layer].kept_channels = int(kept_count_);
    caches[layer].kept = kept_of(int64_t(layer), 0).data();
  }
}

std::span<int32_t> KeyChannels::kept_of(int64_t layer, int slot) {
  const int64_t size = kv_heads_.size() * kept_count_;
  return std::span(kept_).subspan(size_t((layer * sizes_.slots + slot) * size), size_t(size));
}

// A row after its prompt needs everything before newest_begin compacted, and earlier rows of its sequence that need it
// whole attended before: a new run.
void KeyChannels::plan_step(std::span<const StepRow> rows, std::span<AttentionRow> attention_rows) {
  runs_.assign(1, {0, int64_t(rows.size()), {}});
  if (!on()) return;
  ends_.clear();
  compactions_.clear();
  for (AttentionRow& row : attention_rows) {
    PLEAT_ASSERT(row.slot < sizes_.slots, "slot ", row.slot, " of ", sizes_.slots);
    sequences_[size_t(row.slot)].run = -1;
  }
  int64_t run = 0;
  size_t first_compaction = 0;
  const auto close_run = [&](int64_t end) {
    Run& last = runs_.back();
    last.count = end - last.begin;
    last.compactions = std::span(compactions_).subspan(first_compaction);
    first_compaction = compactions_.size();
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    AttentionRow& row = attention_rows[i];
    Sequence& sequence = sequences_[size_t(row.slot)];
    if (row.position == 0) sequence = {};
    observed_[i] = sequence.prompt == 0;
    if (observed_[i]) {
      if (rows[i].prompt_end) {
        sequence.prompt = row.position + 1;
        ends_.push_back({int64_t(i), row.slot, row.page_table, sequence.prompt});
      }
      sequence.run = run;
      continue;
    }
    row.whole_begin = newest_begin(row.position + 1);
    PLEAT_ASSERT(row.whole_begin >= sequence.compacted, "position ", row.position, " comes after a later one");
    if (row.whole_begin > sequence.compacted) {
      if (sequence.run == run) {
        close_run(int64_t(i));
        runs_.push_back({int64_t(i), 0, {}});
        ++run;
      }
      compactions_.push_back({row.page_table, row.slot, sequence.compacted, row.whole_begin});
      sequence.compacted = row.whole_begin;
    }
    sequence.run = run;
  }
  close_run(int64_t(rows.size()));
}

float* KeyChannels::page_sums(int64_t layer, int slot) {
  const int64_t width = heads_[size_t(rank_)].size() * sizes_.head_size;
  return page_sums_.data() + (layer * sizes_.slots + slot) * kQueryPages * width;
}

void KeyChannels::observe(int64_t layer, MatrixView<const float> q, std::span<const AttentionRow> rows) {
  if (!on()) return;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!observed_[i]) continue;
    float* const sums = page_sums(layer, rows[i].slot) + rows[i].position / kPageTokens % kQueryPages * q.cols;
    const float* const row = q[int64_t(i)];
    if (rows[i].position % kPageTokens == 0) std::fill_n(sums, q.cols, 0.0f);
    for (int64_t c = 0; c < q.cols; ++c) sums[c] += row[c] * row[c];
  }
}

void KeyChannels::choose(int64_t layer, Context& context, Communicator& communicator, const KvCache& cache) {
  struct OfThisHost : KeyEnergies {
    OfThisHost(KeyChannels& owner_, int64_t layer_, Context& context_, const KvCache& cache_)
        : owner(owner_), layer(layer_), context(context_), cache(cache_) {}
    const float* of_queries(const PromptEnd& end) override { return owner.page_sums(layer, end.slot); }
    void of_keys(const PromptEnd& end, std::span<double> out) override {
      key_energies(context, cache, end.page_table, end.tokens, out);
    }
    KeyChannels& owner;
    int64_t layer;
    Context& context;
    const KvCache& cache;
  };
  if (!on() || ends_.empty()) return;
  OfThisHost energies(*this, layer, context, cache);
  choose(layer, ends_, energies, communicator);
}

// mine [ends][this rank's heads][head_size]: the squares of the newest prompt rows' queries, summed page after page.
void KeyChannels::choose(int64_t layer, std::span<const PromptEnd> ends, KeyEnergies& energies,
                         Communicator& communicator) {
  const int64_t width = heads_[size_t(rank_)].size() * sizes_.head_size;
  float* out = mine_.data();
  for (const PromptEnd& end : ends) {
    const float* const pages = energies.of_queries(end);
    std::fill_n(out, width, 0.0f);
    for (int64_t first = newest_begin(end.tokens); first < end.tokens; first += kPageTokens)
      for (int64_t c = 0; c < width; ++c) out[c] += pages[first / kPageTokens % kQueryPages * width + c];
    out += width;
  }
  const int64_t head_bytes = int64_t(ends.size()) * sizes_.head_size * int64_t(sizeof(float));
  for (size_t other = 0; other < heads_.size(); ++other) gather_bytes_[other] = heads_[other].size() * head_bytes;
  communicator.all_gather("queries of prompts",
                          std::as_bytes(std::span(mine_)).first(size_t(gather_bytes_[size_t(rank_)])), gather_bytes_,
                          reinterpret_cast<std::byte*>(all_.data()));
  for (size_t which = 0; which < ends.size(); ++which) {
    energies.of_keys(ends[which], key_energies_);
    int32_t* kept = kept_of(layer, ends[which].slot).data();
    for (int64_t head = kv_heads_.begin; head < kv_heads_.end; ++head, kept += kept_count_)
      choose_head(ends, int64_t(which), head, kept);
  }
}

// Norms are compared as products of sums of squares, query heads added in their order; of equals the first wins.
void KeyChannels::choose_head(std::span<const PromptEnd> ends, int64_t which, int64_t kv_head, int32_t* kept) {
  const int64_t head_size = sizes_.head_size, local = kv_head - kv_heads_.begin;
  std::fill(scores_.begin(), scores_.end(), 0.0);
  const float* ranks_part = all_.data();
  for (const Range& heads : heads_) {
    for (int64_t head = heads.begin; head < heads.end; ++head) {
      if (head * sizes_.kv_heads / sizes_.heads != kv_head) continue;
      const float* const energy = ranks_part + (which * heads.size() + head - heads.begin) * head_size;
      for (int64_t c = 0; c < head_size; ++c) scores_[size_t(c)] += energy[c];
    }
    ranks_part += int64_t(ends.size()) * heads.size() * head_size;
  }
  for (int64_t c = 0; c < head_size; ++c) scores_[size_t(c)] *= key_energies_[size_t(local * head_size + c)];
  std::iota(order_.begin(), order_.end(), 0);
  for (double& score : scores_)
    if (std::isnan(score)) score = -1;  // which has a place in an order
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    const double first = scores_[size_t(a)], second = scores_[size_t(b)];
    return first != second ? first > second : a < b;
  });
  std::sort(order_.begin(), order_.begin() + kept_count_);
  std::copy_n(order_.begin(), kept_count_, kept);
}

}  // namespace pleat
