#include "kernels/cuda/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "../vectors.h"

namespace pleat::cuda {

// For GoogleTest.
static void PrintTo(const Candidate& candidate, std::ostream* out) {
  *out << candidate.token << ": " << candidate.value;
}

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kFirstToken = 1000;

struct Found {
  std::vector<Candidate> candidates;  // [rows, k]
  std::vector<LogitSum> sums;         // [rows]
};

// What the device finds in logits [rows, vocab].
Found find(const std::vector<float>& logits, int vocab, int k, float soft_cap = 0, int first_token = kFirstToken) {
  const Stream stream;
  const size_t rows = logits.size() / size_t(vocab);
  const DeviceArray<float> device_logits(logits, stream);
  const DeviceArray<Candidate> candidates(rows * size_t(k));
  const DeviceArray<LogitSum> sums(rows);
  CandidateFinder finder(int(rows), first_token, vocab, soft_cap);
  finder.find(stream.get(), int(rows), k, device_logits.data(), candidates.data(), sums.data());
  return {candidates.to_host(stream), sums.to_host(stream)};
}

// The same of one row by a sort.
std::vector<Candidate> best_of(const float* logits, int vocab, int k, int first_token = kFirstToken) {
  std::vector<Candidate> all;
  for (int i = 0; i < vocab; ++i) all.push_back({logits[i], first_token + i});
  const auto end = all.begin() + std::min(k, vocab);
  std::partial_sort(all.begin(), end, all.end(), [](const Candidate& a, const Candidate& b) {
    return a.value != b.value ? a.value > b.value : a.token < b.token;
  });
  all.erase(end, all.end());
  all.resize(size_t(k), {-kInfinity, -1});
  return all;
}

// Sum of exp(x - max) over a row.
double sum_of(const float* logits, int vocab) {
  const double max = double(*std::max_element(logits, logits + vocab));
  double sum = 0;
  for (int i = 0; i < vocab; ++i) sum += std::exp(double(logits[i]) - max);
  return sum;
}

// Relative error of a sum in f32, in units of 2^-24. Rounding x - max by one unit changes a term by |x - max| units of
// it, on average over the terms at most ln(vocab) (the entropy of the softmax is ln(sum) + that average, and at most
// ln(vocab)); this happens in a slice and when slices meet. Each exp is right within 4 units, also twice, and a product
// rounds. On its way a term is added to another of its thread, and 10 times among the threads, of a slice, then once
// and 10 times again.
double sum_tolerance(int vocab) { return std::ldexp(2 * std::log(vocab) + 2 * 4 + 1 + 1 + 10 + 1 + 10, -24); }

void expect_rows(const std::vector<float>& logits, int vocab, int k) {
  const Found found = find(logits, vocab, k);
  for (size_t row = 0; row < found.sums.size(); ++row) {
    const float* const x = &logits[row * size_t(vocab)];
    const std::vector<Candidate> expected = best_of(x, vocab, k);
    for (size_t i = 0; i < size_t(k); ++i)
      ASSERT_EQ(found.candidates[row * size_t(k) + i], expected[i])
          << "vocab " << vocab << ", k " << k << ", row " << row << ", candidate " << i;
    const LogitSum& sum = found.sums[row];
    EXPECT_EQ(sum.max, expected[0].value);
    EXPECT_NEAR(sum.sum, sum_of(x, vocab), sum_of(x, vocab) * sum_tolerance(vocab)) << "vocab " << vocab;
    EXPECT_EQ(sum.nans, 0);
  }
}

TEST(CudaCandidates, AreTheLargestLogitsAndTheSumOfAll) {
  for (const int vocab : {1, 63, 1000, 50257})
    for (const int k : {1, 5, 64}) expect_rows(random_floats(size_t(3 * vocab), uint32_t(vocab), 3), vocab, k);
}

// Slices are of 1024 tokens, and 32 warps merge them: more than one a warp, and the best in the last.
TEST(CudaCandidates, AreFoundInAnySlice) {
  const int vocab = 1024 * 70 + 1;
  std::vector<float> logits = random_floats(size_t(vocab), 1, 3);
  logits.back() = 100;
  logits[1024 * 40] = 99;
  expect_rows(logits, vocab, 64);
}

TEST(CudaCandidates, OfEqualLogitsAreTheLowestTokens) {
  for (const int vocab : {63, 1000, 5000})
    for (const int k : {1, 5, 64}) {
      expect_rows(std::vector<float>(size_t(vocab), 2.5f), vocab, k);
      std::vector<float> few_values = random_floats(size_t(2 * vocab), 3);
      for (float& value : few_values) value = std::round(value);
      expect_rows(few_values, vocab, k);
    }
}

TEST(CudaCandidates, MayBeMinusInfinityAndStillComeBeforeNone) {
  for (const int vocab : {3, 63, 5000})
    for (const int k : {1, 5, 64}) {
      std::vector<float> logits(size_t(vocab), -kInfinity);
      logits[size_t(vocab / 2)] = 1;
      logits.back() = 1.5f;
      expect_rows(logits, vocab, k);
    }
  const Found found = find(std::vector<float>(3, -kInfinity), 3, 5);
  EXPECT_EQ(found.candidates, (std::vector<Candidate>{{-kInfinity, kFirstToken},
                                                      {-kInfinity, kFirstToken + 1},
                                                      {-kInfinity, kFirstToken + 2},
                                                      {-kInfinity, -1},
                                                      {-kInfinity, -1}}));
  EXPECT_EQ(found.sums[0].max, -kInfinity);
  EXPECT_EQ(found.sums[0].sum, 3);
}

TEST(CudaCandidates, MayBeInfinite) {
  const Found found = find({1, kInfinity, -kInfinity, kInfinity}, 4, 2);
  EXPECT_EQ(found.candidates, (std::vector<Candidate>{{kInfinity, kFirstToken + 1}, {kInfinity, kFirstToken + 3}}));
  EXPECT_EQ(found.sums[0].max, kInfinity);
  EXPECT_EQ(found.sums[0].sum, 2);
}

TEST(CudaCandidates, CountWhatIsNotANumberInItsRowAlone) {
  const int vocab = 5000, k = 5;
  for (const float soft_cap : {0.0f, 30.0f}) {
    std::vector<float> logits = random_floats(size_t(3 * vocab), 4, 3);
    const Found before = find(logits, vocab, k, soft_cap);
    const auto best = size_t(before.candidates[k].token - kFirstToken);
    for (const size_t at : {best, (best + 2048) % vocab, (best + 1) % vocab})
      logits[vocab + at] = std::numeric_limits<float>::quiet_NaN();
    const Found after = find(logits, vocab, k, soft_cap);
    EXPECT_EQ(after.sums[0].nans, 0);
    EXPECT_EQ(after.sums[1].nans, 3);
    EXPECT_EQ(after.sums[2].nans, 0);
    EXPECT_EQ(after.candidates[k], before.candidates[k + 1]) << "the second best is the best that is a number";
    EXPECT_EQ(after.sums[1].max, before.candidates[k + 1].value);
  }
}

TEST(CudaCandidates, OfARowAreTheSameBitsAloneAndAmongOthers) {
  const int vocab = 50257, rows = 3, k = 64;
  const std::vector<float> logits = random_floats(size_t(rows * vocab), 5, 3);
  const Found together = find(logits, vocab, k);
  for (int row = 0; row < rows; ++row) {
    const Found alone = find({logits.begin() + row * vocab, logits.begin() + (row + 1) * vocab}, vocab, k);
    EXPECT_TRUE(std::equal(alone.candidates.begin(), alone.candidates.end(), together.candidates.begin() + row * k));
    EXPECT_TRUE(alone.sums[0] == together.sums[size_t(row)]);
  }
}

TEST(CudaCandidates, OfRanksTogetherAreThoseOfTheWholeVocabulary) {
  const int vocab = 5000, k = 5, split = 1234;
  const std::vector<float> logits = random_floats(size_t(vocab), 6, 3);
  std::vector<Candidate> all;
  float max = -kInfinity;
  std::vector<LogitSum> sums;
  for (const auto& [begin, end] : {std::pair(0, split), std::pair(split, vocab)}) {
    const Found part = find({logits.begin() + begin, logits.begin() + end}, end - begin, k, 0, begin);
    all.insert(all.end(), part.candidates.begin(), part.candidates.end());
    sums.push_back(part.sums[0]);
    max = std::max(max, part.sums[0].max);
  }
  std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.value > b.value; });
  all.resize(k);
  EXPECT_EQ(all, best_of(logits.data(), vocab, k, 0));
  double sum = 0;
  for (const LogitSum& part : sums) sum += double(part.sum) * std::exp(double(part.max) - double(max));
  EXPECT_NEAR(sum, sum_of(logits.data(), vocab), sum * sum_tolerance(vocab));
}

// A capped logit is right within a few units of 2^-24 of itself, so of the cap: 1 for x / cap, at most 4 for tanhf,
// 1 for the product. The i-th largest of many values moves no further than the values do, and log-sum-exp neither.
TEST(CudaCandidates, AreOfSoftCappedLogits) {
  const int vocab = 5000, k = 64;
  std::vector<float> logits = random_floats(size_t(vocab), 7, 30);
  for (const float soft_cap : {0.5f, 30.0f}) {
    const double tolerance = std::ldexp(6 * double(soft_cap), -24);
    std::vector<double> capped, sorted;
    for (const float logit : logits) capped.push_back(double(soft_cap) * std::tanh(double(logit) / double(soft_cap)));
    sorted = capped;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const Found found = find(logits, vocab, k, soft_cap);
    for (size_t i = 0; i < size_t(k); ++i) {
      const Candidate& candidate = found.candidates[i];
      ASSERT_NEAR(candidate.value, sorted[i], tolerance);
      ASSERT_NEAR(candidate.value, capped[size_t(candidate.token - kFirstToken)], tolerance);
      if (i == 0) continue;
      const Candidate& better = found.candidates[i - 1];
      ASSERT_TRUE(better.value > candidate.value ||
                  (better.value == candidate.value && better.token < candidate.token));
    }
    double sum = 0;
    for (const double value : capped) sum += std::exp(value);
    EXPECT_NEAR(double(found.sums[0].max) + std::log(double(found.sums[0].sum)), std::log(sum),
                tolerance + sum_tolerance(vocab));
  }
}

}  // namespace
}  // namespace pleat::cuda
