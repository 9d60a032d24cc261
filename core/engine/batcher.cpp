#include "core/engine/batcher.h"

#include <algorithm>

#include "core/engine/sampler.h"
#include "kernels/attention.h"
#include "kernels/check.h"

namespace pleat {
namespace {

int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// To its place among the others.
template <class Sequence, class Sequences>
void insert(std::unique_ptr<Sequence> sequence, Sequences& others) {
  const auto behind =
      std::find_if(others.begin(), others.end(), [&](const auto& other) { return sequence->precedes(*other); });
  others.insert(behind, std::move(sequence));
}

int32_t required(int32_t best) {
  if (best < 0) throw LogitsNotFinite();
  return best;
}

}  // namespace

Batcher::Sequence::Sequence(Request request, Done done_, Token token_, const Tokenizer& tokenizer)
    : id(std::move(request.id)),
      priority(request.priority),
      sampling(std::move(request.sampling)),
      done(std::move(done_)),
      token(std::move(token_)),
      tokens(std::move(request.prompt)),
      given(std::move(request.given)),
      prompt(int64_t(tokens.size())),
      text(tokenizer, sampling.stop) {
  completion.id = id;
  completion.prompt_tokens = prompt;
  if (given.empty()) return;
  sampling.max_tokens = int(given.size());
  sampling.logprobs = std::max(0, sampling.logprobs);
  sampling.ignore_eos = true;
}

Batcher::Batcher(const BatchLimits& limits, const Tokenizer& tokenizer)
    : limits_(limits), tokenizer_(tokenizer), pool_(limits.pages), prefixes_(pool_), sampler_(limits.vocab) {
  PLEAT_REQUIRE(limits_.max_batch >= 1, "the batch size is ", limits_.max_batch, ", expected 1 or more");
  PLEAT_REQUIRE(limits_.prefill_chunk >= 1, "the prefill chunk is ", limits_.prefill_chunk,
                " tokens, expected 1 or more");
  PLEAT_ASSERT(limits_.max_rows >= limits_.max_batch);
  for (int32_t slot = limits_.max_batch - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

void Batcher::submit(Request request, Done done, Token token) {
  if (request.prompt.empty()) {
    const std::optional<int32_t> start = tokenizer_.eos() ? tokenizer_.eos() : tokenizer_.bos();
    PLEAT_REQUIRE(start.has_value(), "the prompt is empty, and the tokenizer has no end or begin token to start from");
    request.prompt.push_back(*start);
  }
  validate(request, limits_.vocab, limits_.max_positions);
  const std::vector<int32_t> written = std::move(request.written);
  auto sequence = std::make_unique<Sequence>(std::move(request), std::move(done), std::move(token), tokenizer_);
  sequence->limit = std::min(sequence->prompt + int64_t(sequence->sampling.max_tokens), limits_.max_positions);
  PLEAT_REQUIRE(pages_for(sequence->limit) <= limits_.pages, "prompt and max_tokens need ", sequence->limit,
                " tokens of the key-value cache, which has ", limits_.pages * kPageTokens);
  for (const int32_t token : written) {
    PLEAT_REQUIRE(sequence->completion.finish_reason.empty(), "the text ended before the last of its written tokens");
    grow(*sequence, token);
  }
  if (!sequence->completion.finish_reason.empty()) return sequence->done(std::move(sequence->completion));
  sequence->arrival = arrivals_++;
  insert(std::move(sequence), queue_);
}

bool Batcher::cancel(const std::string& id) {
  PLEAT_ASSERT(wanting_.empty(), "a step is under way");
  const auto is_it = [&](const auto& sequence) { return sequence->id == id; };
  if (std::erase_if(queue_, is_it) > 0) return true;
  const auto found = std::find_if(running_.begin(), running_.end(), is_it);
  if (found == running_.end()) return false;
  free(**found);
  running_.erase(found);
  return true;
}

void Batcher::free(Sequence& sequence) {
  prefixes_.release(sequence.shared);
  pool_.release(sequence.own);
  free_slots_.push_back(sequence.slot);
}

// A page for each decoding sequence whose next token begins one, first come first served.
void Batcher::make_room_to_grow() {
  for (size_t i = 0; i < running_.size(); ++i)
    while (i < running_.size() && !grow_pages(*running_[i])) preempt_last();
}

// False: there is no page.
bool Batcher::grow_pages(Sequence& sequence) {
  const int64_t missing = pages_for(int64_t(sequence.tokens.size())) - int64_t(sequence.pages.size());
  if (missing <= 0) return true;
  prefixes_.make_room(missing);
  const size_t before = sequence.own.size();
  if (!pool_.reserve(missing, sequence.own)) return false;
  sequence.pages.insert(sequence.pages.end(), sequence.own.begin() + int64_t(before), sequence.own.end());
  return true;
}

void Batcher::preempt_last() {
  Sequence& last = *running_.back();
  free(last);
  last.pages.clear();
  last.computed = 0;
  ++preemptions_;
  insert(std::move(running_.back()), queue_);
  running_.pop_back();
}

void Batcher::admit() {
  while (!queue_.empty() && running() < limits_.max_batch) {
    Sequence& first = *queue_.front();
    if (!reserve(first)) return;
    first.slot = free_slots_.back();
    free_slots_.pop_back();
    insert(std::move(queue_.front()), running_);
    queue_.pop_front();
  }
}

// The pages of its tokens so far; it starts behind those that another prompt has computed. False: there is no room yet.
// A page is left for each one that runs, so that it does not make another give way at once.
bool Batcher::reserve(Sequence& sequence) {
  if (limits_.share_prefixes) sequence.shared = prefixes_.hold(sequence.prompt_tokens());
  const int64_t shared = int64_t(sequence.shared.pages.size());
  const int64_t missing = pages_for(int64_t(sequence.tokens.size())) - shared;
  const int64_t wanted = missing + running();
  if (pool_.available() + prefixes_.unused() < wanted) {
    prefixes_.release(sequence.shared);
    return false;
  }
  prefixes_.make_room(wanted);
  pool_.reserve(missing, sequence.own);
  sequence.pages = sequence.shared.pages;
  sequence.pages.insert(sequence.pages.end(), sequence.own.begin(), sequence.own.end());
  sequence.computed = shared * kPageTokens;
  reused_tokens_ += sequence.computed;
  return true;
}

// A row for every decoding sequence, so that no prompt delays a text; then prompts, and what was written before, in
// their order, as far as they fit. A prompt and what follows it never share a step: the one runs densely and decides
// what the other computes.
bool Batcher::plan(StepPlan& plan) {
  make_room_to_grow();
  admit();
  if (running_.empty()) {
    PLEAT_ASSERT(queue_.empty(), "a request waits although nothing runs");
    return false;
  }
  plan.step = steps_++;
  plan.stop = false;
  plan.rows.clear();
  plan.page_tables.clear();
  plan.slots.clear();
  wanting_.clear();
  for (const auto& sequence : running_)
    if (sequence->decodes()) add_rows(plan, *sequence, 1);
  int64_t room = std::min<int64_t>(limits_.prefill_chunk, limits_.max_rows - int64_t(plan.rows.size()));
  for (const auto& sequence : running_) {
    const int64_t end = sequence->computed < sequence->prompt ? sequence->prompt : int64_t(sequence->tokens.size());
    if (sequence->computed == end) continue;  // it decodes
    const int64_t count = std::min(room, end - sequence->computed);
    if (count == 0) break;
    add_rows(plan, *sequence, count);
    prompt_tokens_ += count;
    room -= count;
  }
  mode_ = mode_of_step();
  plan.logits = mode_;
  return true;
}

bool Batcher::settled_by_candidates(const Sequence& sequence) const {
  return limits_.gives_candidates && sequence.given.empty() && needs_only_candidates(sequence.sampling);
}

// A greedy one takes what the others need.
LogitsMode Batcher::mode_of_step() const {
  if (wanting_.empty()) return LogitsMode::none;
  bool logits = false, candidates = false;
  for (const Sequence* sequence : wanting_)
    if (!needs_only_argmax(sequence->sampling)) (settled_by_candidates(*sequence) ? candidates : logits) = true;
  if (logits && candidates) return LogitsMode::both;
  return logits ? LogitsMode::full : candidates ? LogitsMode::candidates : LogitsMode::argmax;
}

// Position 0 is always dense: it is an attention sink, with activations unlike all others.
void Batcher::add_rows(StepPlan& plan, Sequence& sequence, int64_t count) {
  const int32_t index = int32_t(plan.page_tables.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = sequence.computed++;
    StepRow row{sequence.tokens[size_t(position)], int32_t(position), index, 0, 0};
    row.prompt_end = position + 1 == sequence.prompt;
    row.folded = position > 0 && (position >= sequence.prompt || limits_.fold_prompt);
    plan.rows.push_back(row);
  }
  plan.page_tables.emplace_back(sequence.pages.begin(), sequence.pages.begin() + pages_for(sequence.computed));
  plan.slots.push_back(sequence.slot);
  if (sequence.computed < int64_t(sequence.tokens.size())) return;
  plan.rows.back().wants_logits = 1;
  wanting_.push_back(&sequence);
}

void Batcher::accept(MatrixView<const float> logits, std::span<const int32_t> best,
                     std::span<const RowCandidates> candidates) {
  const int64_t wanted = int64_t(wanting_.size());
  if (limits_.share_prefixes)
    for (const auto& sequence : running_)
      if (sequence->computed == sequence->prompt)
        prefixes_.keep(sequence->prompt_tokens(), sequence->pages, sequence->shared, sequence->own);
  PLEAT_ASSERT(!asks_for_logits(mode_) || (logits.rows == wanted && logits.cols == limits_.vocab));
  PLEAT_ASSERT(!asks_for_candidates(mode_) || int64_t(candidates.size()) == wanted);
  PLEAT_ASSERT(mode_ != LogitsMode::argmax || int64_t(best.size()) == wanted);
  for (int64_t i = 0; i < wanted; ++i) {
    Sequence& sequence = *wanting_[size_t(i)];
    with_context(concat("request '", sequence.id, "'"), [&] {
      try {
        if (mode_ == LogitsMode::argmax) return advance(sequence, required(best[size_t(i)]));
        const bool settled = asks_for_candidates(mode_) && settled_by_candidates(sequence);
        advance(sequence, settled ? next_token(sequence, candidates[size_t(i)])
                                  : next_token(sequence, std::span<const float>(logits[i], size_t(logits.cols))));
      } catch (const LogitsNotFinite& error) {  // the others go on
        end(sequence, "error");
        sequence.completion.error = error;
      }
    });
  }
  wanting_.clear();
  mode_ = LogitsMode::none;

  std::vector<std::unique_ptr<Sequence>> ended;
  for (auto& sequence : running_)
    if (!sequence->completion.finish_reason.empty()) ended.push_back(std::move(sequence));
  std::erase(running_, nullptr);
  for (const auto& sequence : ended) free(*sequence);
  for (const auto& sequence : ended) sequence->done(std::move(sequence->completion));
}

template <class Row>
int32_t Batcher::next_token(Sequence& sequence, const Row& row) {
  const SamplingOptions& sampling = sequence.sampling;
  const int32_t token = sequence.given.empty() ? sampler_.sample(sampling, sequence.tokens, row)
                                               : sequence.given[sequence.tokens.size() - size_t(sequence.prompt)];
  if (sampling.logprobs >= 0) sequence.completion.logprobs.push_back(sampler_.logprob(row, token, sampling.logprobs));
  return token;
}

void Batcher::advance(Sequence& sequence, int32_t token) {
  ++generated_tokens_;
  Piece piece{token, grow(sequence, token),
              sequence.sampling.logprobs >= 0 ? &sequence.completion.logprobs.back() : nullptr};
  if (sequence.token) sequence.token(sequence.id, piece);
}

// Returns the text that no later token takes back.
std::string Batcher::grow(Sequence& sequence, int32_t token) {
  sequence.tokens.push_back(token);
  std::string text;
  const bool ends = !sequence.sampling.ignore_eos && ends_text(token);
  if (!ends) text = sequence.text.push(token);
  const char* reason = ends || sequence.text.stopped()                     ? "stop"
                       : int64_t(sequence.tokens.size()) == sequence.limit ? "length"
                                                                           : nullptr;
  if (reason) text += end(sequence, reason);
  return text;
}

bool Batcher::ends_text(int32_t token) const {
  const auto& ends = limits_.end_tokens;
  return token == tokenizer_.eos() || std::find(ends.begin(), ends.end(), token) != ends.end();
}

// Returns the text that was held back.
std::string Batcher::end(Sequence& sequence, const char* reason) {
  std::string rest = sequence.text.finish();
  Completion& completion = sequence.completion;
  completion.finish_reason = sequence.text.stopped() ? "stop" : reason;
  completion.tokens.assign(sequence.tokens.begin() + sequence.prompt, sequence.tokens.end());
  completion.text = sequence.text.text();
  return rest;
}

}  // namespace pleat
