#pragma once
// Which key channels older tokens keep (ThinK, arXiv 2407.21018). With the last row of its prompt a sequence chooses,
// in every layer and kv head, the channels j with the greatest
//   ||Q[:, j]|| * ||K[:, j]||,
// Q being the queries of the newest prompt tokens in all heads that share the kv head, K the prompt's keys as cached.
// From then on tokens older than the newest ones are attended with these channels alone. Everything depends on the
// sequence's own positions: not on chunks, the batch, threads or ranks.
#include <cstdint>
#include <span>
#include <vector>

#include "core/engine/step_plan.h"
#include "kernels/attention.h"
#include "parallel/communicator.h"
#include "parallel/shard_plan.h"

namespace pleat {

// The newest tokens are always whole, and so many prompt rows' queries count. Both begin at a page.
constexpr int64_t kNewestTokens = 32;
constexpr int64_t newest_begin(int64_t tokens) {
  return tokens < kNewestTokens ? 0 : (tokens - kNewestTokens) / kPageTokens * kPageTokens;
}

struct KeyChannelSizes {
  int64_t layers = 0, heads = 0, kv_heads = 0, head_size = 0;  // of the model
  int64_t slots = 0, max_rows = 0;
  double share = 1;  // of a head's channels that are kept; 1: all, and nothing here does anything

  int64_t kept() const;  // channels; at least one
};

// A prompt whose last row is in the step.
struct PromptEnd {
  int64_t row = 0;  // in the engine's order
  int slot = 0;
  const int32_t* page_table = nullptr;
  int64_t tokens = 0;
};

// Queries are summed page by page, and the newest prompt tokens lie in so many pages at most.
constexpr int64_t kQueryPages = kNewestTokens / kPageTokens + 1;

// What a choice is made of.
class KeyEnergies {
 public:
  virtual ~KeyEnergies() = default;
  // [pages][this rank's heads * head_size]: of a sequence, squares of its newest queries, page p's at p % pages.
  virtual const float* of_queries(const PromptEnd& end) = 0;
  // out [this rank's kv heads * head_size]: as kernels/kv_cache.h's key_energies().
  virtual void of_keys(const PromptEnd& end, std::span<double> out) = 0;
};

// One rank's part, and the per-sequence state: slots as the step plan names them.
class KeyChannels {
 public:
  // Rows [begin, begin + count) of the step, which attend together, and what is compacted before they do.
  struct Run {
    int64_t begin = 0, count = 0;
    std::span<const KeyCompaction> compactions;
  };

  KeyChannels(const KeyChannelSizes& sizes, const ShardPlan& plan, int rank);

  bool on() const { return kept_count_ < sizes_.head_size; }
  int64_t kept_count() const { return kept_count_; }
  // Of a layer's slot [this rank's kv heads][kept_count].
  std::span<int32_t> kept_of(int64_t layer, int slot);

  // Lets the caches [layers] of this host know the kept channels.
  void share(std::span<KvCache> caches);

  // Once a step, `rows` in the engine's order: fills in whole_begin and makes the runs.
  void plan_step(std::span<const StepRow> rows, std::span<AttentionRow> attention_rows);
  std::span<const Run> runs() const { return runs_; }
  std::span<const PromptEnd> ends() const { return ends_; }                    // ascending rows
  bool observes(int64_t row) const { return on() && observed_[size_t(row)]; }  // it is a prompt's

  // In every layer: the step's queries [rows, this rank's heads * head_size]; then the choice for the prompts that end.
  // The latter is collective where such prompts are: a kv head's query heads may lie on several ranks.
  void observe(int64_t layer, MatrixView<const float> q, std::span<const AttentionRow> rows);
  void choose(int64_t layer, Context& context, Communicator& communicator, const KvCache& cache);
  // The same for some of the step's ends, whose energies lie elsewhere.
  void choose(int64_t layer, std::span<const PromptEnd> ends, KeyEnergies& energies, Communicator& communicator);

 private:
  struct Sequence {
    int64_t prompt = 0;     // tokens; 0: not known yet
    int64_t compacted = 0;  // keys before this position
    int64_t run = -1;       // the step's last run with a row of it
  };

  float* page_sums(int64_t layer, int slot);  // [kQueryPages][this rank's heads * head_size]
  void choose_head(std::span<const PromptEnd> ends, int64_t which, int64_t kv_head, int32_t* kept);

  KeyChannelSizes sizes_;
  int rank_;
  std::vector<Range> heads_;  // [ranks]
  Range kv_heads_;            // this rank's
  int64_t kept_count_;

  std::vector<Sequence> sequences_;  // [slots]
  std::vector<float> page_sums_;     // [layers][slots][kQueryPages][this rank's heads * head_size], of this host
  std::vector<int32_t> kept_;        // [layers][slots][this rank's kv heads][kept_count]
  std::vector<PromptEnd> ends_;      // of the step
  std::vector<bool> observed_;       // [max_rows] rows of prompts
  std::vector<KeyCompaction> compactions_;
  std::vector<Run> runs_;

  // work space of one layer's choice
  std::vector<float> mine_, all_;      // [ends][heads of a rank][head_size], rank after rank
  std::vector<int64_t> gather_bytes_;  // [ranks]
  std::vector<double> key_energies_;   // [this rank's kv heads * head_size]
  std::vector<double> scores_;         // [head_size]
  std::vector<int32_t> order_;         // [head_size]
};

}  // namespace pleat
