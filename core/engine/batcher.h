#pragma once
// The scheduler's decisions, without an engine: from requests to step plans, from a step's results to tokens, texts and
// completions. Nothing here depends on time; the rows of a sequence, and so its text, depend on its request alone.
//
// A sequence starts with the pages of what it is known to consist of and takes more as it grows. Where none is left,
// the one of the lowest priority, of these the newest, gives way: it loses its pages and its slot, waits before all
// that came later, and is then computed from its beginning again. Its prompt is a prompt again and its generated tokens
// are computed as generated ones, so the text is the one it would have been.
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/engine/page_pool.h"
#include "core/engine/prefix_cache.h"
#include "core/engine/request.h"
#include "core/engine/sampler.h"
#include "core/engine/step_plan.h"
#include "core/engine/text_stream.h"
#include "kernels/tensor.h"

namespace pleat {

struct BatchLimits {
  int max_batch = 16;       // sequences that run together: decoding, or with a prompt under way
  int max_rows = 512;       // of a step
  int prefill_chunk = 256;  // prompt tokens of a step
  bool fold_prompt = false;
  bool gives_candidates = false;  // plans may ask for candidates
  bool share_prefixes = false;    // prompts that begin in the same way share their pages (prefix_cache.h)
  int64_t vocab = 0;
  int64_t max_positions = 0;
  int64_t pages = 0;
  std::vector<int32_t> end_tokens;  // that end a text, besides the tokenizer's
};

class Batcher {
 public:
  using Done = std::function<void(Completion)>;
  using Token = std::function<void(const std::string& id, const Piece& piece)>;  // once a token

  Batcher(const BatchLimits& limits, const Tokenizer& tokenizer);

  // Queues it. Error(invalid) if it can never run. One that has been written to its end is done at once.
  void submit(Request request, Done done, Token token);
  // Ends it without a completion, waiting or running; its pages and its slot are free at once. False: there is none of
  // this id any more. Not from a callback.
  bool cancel(const std::string& id);

  // Makes the next step's plan. False: nothing is queued or running.
  bool plan(StepPlan& plan);
  // What the planned step gave for its wanted rows, in order: logits [rows, vocab] and candidates [rows] where its mode
  // gives them, best [rows] after LogitsMode::argmax. Calls back; the callbacks may submit.
  void accept(MatrixView<const float> logits, std::span<const int32_t> best,
              std::span<const RowCandidates> candidates = {});

  int64_t queued() const { return int64_t(queue_.size()); }
  int64_t running() const { return int64_t(running_.size()); }
  int64_t free_pages() const { return pool_.available() + prefixes_.unused(); }
  int64_t generated_tokens() const { return generated_tokens_; }
  int64_t prompt_tokens() const { return prompt_tokens_; }  // computed, and those of texts begun before
  int64_t reused_tokens() const { return reused_tokens_; }  // of prompts, found in the cache
  int64_t preemptions() const { return preemptions_; }      // times a sequence gave way

 private:
  struct Sequence {
    Sequence(Request request, Done done, Token token, const Tokenizer& tokenizer);
    // Its next row is its newest token, and the only one that is not computed.
    bool decodes() const { return computed >= prompt && computed + 1 == int64_t(tokens.size()); }
    std::span<const int32_t> prompt_tokens() const { return std::span(tokens).first(size_t(prompt)); }
    // It starts before the other one, and gives way after it.
    bool precedes(const Sequence& other) const {
      return priority != other.priority ? priority > other.priority : arrival < other.arrival;
    }

    std::string id;
    int priority;
    int64_t arrival = 0;  // no other one has it
    SamplingOptions sampling;
    Done done;
    Token token;
    std::vector<int32_t> tokens;  // prompt, then generated
    std::vector<int32_t> given;   // instead of chosen ones
    int64_t prompt = 0;           // of them
    int64_t limit = 0;            // length at which it ends
    int64_t computed = 0;         // tokens with keys and values in the cache once the planned step has run
    std::vector<int32_t> pages;   // the whole table: shared ones, then its own
    PrefixCache::Held shared;
    std::vector<int32_t> own;
    int32_t slot = 0;  // of [0, max_batch), while it runs
    TextStream text;
    Completion completion;
  };

  void make_room_to_grow();
  bool grow_pages(Sequence& sequence);
  void preempt_last();
  void admit();
  bool reserve(Sequence& sequence);
  void free(Sequence& sequence);
  bool settled_by_candidates(const Sequence& sequence) const;
  LogitsMode mode_of_step() const;
  template <class Row>  // logits [vocab], or candidates
  int32_t next_token(Sequence& sequence, const Row& row);
  void add_rows(StepPlan& plan, Sequence& sequence, int64_t count);
  void advance(Sequence& sequence, int32_t token);
  std::string grow(Sequence& sequence, int32_t token);
  std::string end(Sequence& sequence, const char* reason);
  bool ends_text(int32_t token) const;

  BatchLimits limits_;
  Tokenizer tokenizer_;
  PagePool pool_;
  PrefixCache prefixes_;
  std::vector<int32_t> free_slots_;  // the last one goes next
  Sampler sampler_;
  std::deque<std::unique_ptr<Sequence>> queue_;     // by precedence
  std::vector<std::unique_ptr<Sequence>> running_;  // by precedence
  std::vector<Sequence*> wanting_;                  // whose logits the planned step gives, in its rows' order
  LogitsMode mode_ = LogitsMode::none;              // of the planned step
  int64_t arrivals_ = 0;
  int64_t steps_ = 0;
  int64_t generated_tokens_ = 0;
  int64_t prompt_tokens_ = 0;
  int64_t reused_tokens_ = 0;
  int64_t preemptions_ = 0;
};

}  // namespace pleat
