#pragma once
// How far a changed model's next-token distributions are from the dense model's.
#include <cstdint>
#include <span>
#include <vector>

#include "core/fold/products.h"
#include "kernels/thread_team.h"

namespace pleat {

// One window's dense logits, kept while changed models run it.
struct DenseLogits {
  Table logits;             // [scored, vocab]
  std::vector<double> sum;  // [scored] log of the sum of exp
};
DenseLogits keep_logits(ThreadTeam& team, MatrixView<const float> logits, int64_t scored);

// Sums over tokens.
struct Divergence {
  double loss = 0;       // of the changed model, nats
  double kl = 0;         // of the dense distribution from the changed one
  int64_t agreeing = 0;  // same best token
  int64_t tokens = 0;
  void operator+=(const Divergence& o) { loss += o.loss, kl += o.kl, agreeing += o.agreeing, tokens += o.tokens; }
};
// Over the rows from `first` on. changed: logits of the same window; next [scored]: the tokens that follow.
Divergence compare_logits(ThreadTeam& team, const DenseLogits& dense, MatrixView<const float> changed,
                          std::span<const int32_t> next, int64_t first);

}  // namespace pleat
