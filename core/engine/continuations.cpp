#include "core/engine/continuations.h"

#include <algorithm>
#include <cmath>

#include "core/engine/page_pool.h"
#include "kernels/attention.h"
#include "kernels/check.h"

namespace pleat {
namespace {

double log_probability(const float* logits, int64_t vocab, int32_t token) {
  const double top = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(logits[i] - top);
  return logits[token] - top - std::log(sum);
}

class Scorer {
 public:
  Scorer(Engine& engine, Communicator& communicator, const std::function<void(size_t, double)>& done)
      : engine_(engine), communicator_(communicator), done_(done), pool_(engine.kv_pages()) {
    plan_.logits = LogitsMode::full;
  }

  void add(size_t index, const Continuation& item) {
    const Blueprint& blueprint = engine_.blueprint();
    PLEAT_REQUIRE(!item.context.empty() && !item.continuation.empty(), "a context or a continuation has no tokens");
    Sequence sequence;
    sequence.index = index;
    sequence.tokens = item.context;
    sequence.tokens.insert(sequence.tokens.end(), item.continuation.begin(), item.continuation.end());
    for (const int32_t token : sequence.tokens)
      PLEAT_REQUIRE(token >= 0 && token < blueprint.vocab, "token ", token, " is not in the model's vocabulary of ",
                    blueprint.vocab);
    // The last token is only asked about, never put in.
    const int64_t most = std::min(blueprint.max_positions, engine_.kv_pages() * kPageTokens) + 1;
    const int64_t excess = std::max<int64_t>(0, int64_t(sequence.tokens.size()) - most);
    sequence.tokens.erase(sequence.tokens.begin(), sequence.tokens.begin() + excess);
    sequence.context = std::max<int64_t>(1, int64_t(item.context.size()) - excess);
    const int64_t pages = (int64_t(sequence.tokens.size()) - 2) / kPageTokens + 1;
    if (!pool_.reserve(pages, sequence.pages)) {
      run();
      PLEAT_ASSERT(pool_.reserve(pages, sequence.pages), "pages of finished sequences are free");
    }
    add_rows(std::move(sequence));
  }

  // Executes what is planned.
  void run() {
    if (plan_.rows.empty()) return;
    broadcast_plan(communicator_, plan_);
    engine_.step(plan_);
    const MatrixView<const float> logits = engine_.logits();
    PLEAT_ASSERT(logits.rows == int64_t(asked_.size()));
    for (int64_t i = 0; i < logits.rows; ++i)
      sequences_[asked_[size_t(i)].sequence].sum += log_probability(logits[i], logits.cols, asked_[size_t(i)].token);
    for (Sequence& sequence : sequences_) {
      if (sequence.next + 1 < int64_t(sequence.tokens.size())) continue;
      done_(sequence.index, sequence.sum);
      pool_.release(sequence.pages);
    }
    std::erase_if(sequences_, [](const Sequence& s) { return s.next + 1 >= int64_t(s.tokens.size()); });
    plan_.rows.clear();
    plan_.page_tables.clear();
    plan_.slots.clear();
    asked_.clear();
    ++plan_.step;
    for (Sequence& sequence : sequences_) {
      plan_.page_tables.push_back(sequence.pages);
      plan_.slots.push_back(sequence.slot);
    }
  }

 private:
  struct Sequence {
    size_t index = 0;
    std::vector<int32_t> tokens;
    int64_t context = 0;
    int64_t next = 0;  // first token not yet in a step
    std::vector<int32_t> pages;
    int32_t slot = 0;
    double sum = 0;
  };
  struct Asked {
    size_t sequence;
    int32_t token;
  };

  void add_rows(Sequence added) {
    const int slots = engine_.options().max_sequences;
    if (int(sequences_.size()) == slots) run();
    added.slot = next_slot_;
    next_slot_ = (next_slot_ + 1) % slots;
    sequences_.push_back(std::move(added));
    plan_.page_tables.push_back(sequences_.back().pages);
    plan_.slots.push_back(sequences_.back().slot);
    while (!sequences_.empty() && sequences_.back().next + 1 < int64_t(sequences_.back().tokens.size())) {
      Sequence& sequence = sequences_.back();
      const bool asks = sequence.next + 1 >= sequence.context;
      const bool full = int(plan_.rows.size()) == engine_.options().max_rows ||
                        (asks && int(asked_.size()) == engine_.options().max_logit_rows);
      if (full) {
        run();
        continue;
      }
      if (asks) asked_.push_back({sequences_.size() - 1, sequence.tokens[size_t(sequence.next + 1)]});
      plan_.rows.push_back({sequence.tokens[size_t(sequence.next)], int32_t(sequence.next),
                            int32_t(sequences_.size() - 1), sequence.next >= sequence.context, asks,
                            sequence.next + 1 == sequence.context});
      ++sequence.next;
    }
  }

  Engine& engine_;
  Communicator& communicator_;
  const std::function<void(size_t, double)>& done_;
  PagePool pool_;
  StepPlan plan_;
  std::vector<Sequence> sequences_;  // of the planned step, in consecutive slots
  int32_t next_slot_ = 0;
  std::vector<Asked> asked_;  // what the planned step's logits are for
};

}  // namespace

Continuation continuation_tokens(const Tokenizer& tokenizer, const std::string& context,
                                 const std::string& continuation) {
  const std::vector<int32_t> whole = tokenizer.encode(context + continuation);
  const std::vector<int32_t> head = tokenizer.encode(context.substr(0, context.find_last_not_of(" \t\n\r") + 1));
  PLEAT_REQUIRE(!head.empty() && head.size() < whole.size(), "the continuation '", continuation,
                "' has no tokens of its own");
  Continuation out{tokenizer.leading_special(), {whole.begin() + int64_t(head.size()), whole.end()}};
  out.context.insert(out.context.end(), head.begin(), head.end());
  return out;
}

void score_continuations(Engine& engine, Communicator& communicator, std::span<const Continuation> items,
                         const std::function<void(size_t index, double log_likelihood)>& done) {
  Scorer scorer(engine, communicator, done);
  for (size_t index = 0; index < items.size(); ++index) scorer.add(index, items[index]);
  scorer.run();
}

}  // namespace pleat
