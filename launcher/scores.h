#pragma once
// Perplexity and distances between next-token distributions, from logits.
#include <cstdint>
#include <span>
#include <vector>

namespace pleat {

// Log of the softmax, in double.
void log_softmax(std::span<const float> logits, std::vector<double>& log_probabilities);

// Sums over scored tokens.
struct Scores {
  int64_t tokens = 0;
  double negative_log_likelihood = 0;
  double divergence = 0;   // KL(reference || model), nats
  int64_t agreements = 0;  // same best token as the reference

  double mean_nll() const;
  double perplexity() const;
  void add(std::span<const double> model, int32_t next);
  void compare(std::span<const double> reference, std::span<const double> model);
};

}  // namespace pleat
