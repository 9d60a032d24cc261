#pragma once
// What of a rank's logits goes to the sampler: the best tokens of each row, and what a softmax over all ranks needs.

#include <cstdint>

#include "kernels/cuda/device.h"

namespace pleat::cuda {

constexpr int kMaxCandidates = 64;

struct Candidate {
  float value;
  int32_t token;
  bool operator==(const Candidate&) const = default;
};

// Of one row x. Ranks' together: max = the largest, sum = each one's sum * exp(its max - max), added in rank order;
// log-sum-exp = max + log(sum).
struct LogitSum {
  float max;
  float sum;     // of exp(x - max); where x is max it counts 1, even an infinite one
  int32_t nans;  // logits that are not numbers; all else is as if they were -inf
  bool operator==(const LogitSum&) const = default;
};

// Owns its work space: one stream at a time.
class CandidateFinder {
 public:
  // Of rows whose columns are the tokens [first_token, first_token + vocab), vocab from 1.
  //   soft_cap: as in kernels/activation.h, applied to each logit; 0: none
  // Error(failed) where device memory is out.
  CandidateFinder(int max_rows, int first_token, int vocab, float soft_cap);

  // The k largest logits of each row, best first, of equal ones the lower token first; (-inf, -1) after the last token.
  // Bits depend on the row alone, those of a sum also on whether k is 1.
  //   rows        1 to max_rows;  k: 1 to kMaxCandidates
  //   logits      [rows, vocab]
  //   candidates  [rows, k]
  //   sums        [rows]
  void find(StreamHandle stream, int rows, int k, const float* logits, Candidate* candidates, LogitSum* sums);

 private:
  int max_rows_, first_token_, vocab_;
  float soft_cap_;
  DeviceArray<uint64_t> slice_best_;  // [max_rows, slices, kMaxCandidates] as best_runs.h ranks them
  DeviceArray<LogitSum> slice_sums_;  // [max_rows, slices]
};

}  // namespace pleat::cuda
