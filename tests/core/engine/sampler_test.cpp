#include "core/engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "core/engine/philox.h"
#include "kernels/check.h"
#include "tests/core/engine/row_candidates.h"

namespace pleat {
namespace {

std::vector<float> random_logits(size_t vocab, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = std::round(normal(random) * 16) / 16;  // coarse: many ties
  return logits;
}

// A sequence of this many tokens that no penalty is asked for.
std::vector<int32_t> sequence_of(size_t length) { return std::vector<int32_t>(length, 0); }

SamplingOptions at_temperature(float temperature) {
  SamplingOptions sampling;
  sampling.temperature = temperature;
  return sampling;
}

std::map<int32_t, int> count_draws(const SamplingOptions& sampling, const std::vector<float>& logits, int draws) {
  Sampler sampler(int64_t(logits.size()));
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sampler.sample(sampling, sequence_of(size_t(i)), logits)];
  return counts;
}

std::vector<int32_t> support(const SamplingOptions& sampling, const std::vector<float>& logits) {
  std::vector<int32_t> tokens;
  for (const auto& [token, count] : count_draws(sampling, logits, 2000)) tokens.push_back(token);
  return tokens;
}

// The filters one after the other on a full sort, in double precision.
int32_t reference(const SamplingOptions& sampling, const std::vector<int32_t>& sequence, std::vector<float> logits) {
  std::vector<bool> seen(logits.size(), false);
  for (const int32_t token : sequence) {
    float& logit = logits[size_t(token)];
    if (!seen[size_t(token)])
      logit = logit < 0 ? logit * sampling.repetition_penalty : logit / sampling.repetition_penalty;
    seen[size_t(token)] = true;
  }
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = int32_t(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
  if (sampling.temperature == 0) return order[0];
  const double largest = logits[size_t(order[0])];
  const auto weight = [&](int32_t token) {
    return std::exp((double(logits[size_t(token)]) - largest) / double(sampling.temperature));
  };
  if (sampling.top_k > 0) order.resize(std::min(order.size(), size_t(sampling.top_k)));
  double total = 0;
  for (const int32_t token : order) total += weight(token);
  size_t kept = 0;
  for (double sum = 0; kept < order.size() && (kept == 0 || sum < double(sampling.top_p) * total); ++kept)
    sum += weight(order[kept]);
  if (sampling.top_p < 1) order.resize(kept);
  std::erase_if(order, [&](int32_t token) { return weight(token) < double(sampling.min_p); });
  std::sort(order.begin(), order.end());
  total = 0;
  for (const int32_t token : order) total += weight(token);
  const double target = philox_uniform(sampling.seed, sequence.size()) * total;
  double sum = 0;
  for (const int32_t token : order) {
    sum += weight(token);
    if (target < sum) return token;
  }
  return order.back();
}

// From the known answers published with Random123 (kat_vectors, philox 4x32, 10 rounds).
TEST(Philox, GivesThePublishedAnswers) {
  using Answer = std::array<uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Answer{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox({ones, ones, ones, ones}, {ones, ones}), (Answer{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Answer{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformNumbersFillTheUnitInterval) {
  constexpr int kDraws = 20000;
  double sum = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = philox_uniform(12345, uint64_t(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
}

TEST(Sampler, GreedyTakesTheLowestOfEqualTokens) {
  Sampler sampler(5);
  EXPECT_EQ(sampler.sample({}, sequence_of(3), std::vector<float>{1, 4, 2, 4, 4}), 1);
  SamplingOptions with_penalty;
  with_penalty.repetition_penalty = 2;
  EXPECT_EQ(sampler.sample(with_penalty, std::vector<int32_t>{1}, std::vector<float>{1, 4, 2, 4, 4}), 3);
}

TEST(Sampler, DrawsWithTheSoftmaxsProbabilities) {
  const std::vector<float> logits = {0.5f, -1.0f, 2.0f, 1.25f, -3.0f};
  constexpr int kDraws = 20000;
  auto counts = count_draws(at_temperature(0.7f), logits, kDraws);
  double total = 0;
  for (const float logit : logits) total += std::exp(double(logit) / double(0.7f));
  for (size_t i = 0; i < logits.size(); ++i) {
    const double p = std::exp(double(logits[i]) / double(0.7f)) / total;
    EXPECT_NEAR(counts[int32_t(i)], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << "token " << i;
  }
}

TEST(Sampler, EveryCombinationOfFiltersEqualsTheFullSort) {
  std::mt19937 random(7);
  constexpr size_t kVocab = 1000;
  Sampler sampler(kVocab);
  for (int round = 0; round < 300; ++round) {
    const std::vector<float> logits = random_logits(kVocab, random);
    std::vector<int32_t> sequence(random() % 50);
    for (int32_t& token : sequence) token = int32_t(random() % kVocab);
    SamplingOptions sampling;
    sampling.seed = random();
    if (random() % 4) sampling.temperature = 0.1f + float(random() % 30) / 10;
    if (random() % 2) sampling.top_k = int(random() % 1200);
    if (random() % 2) sampling.top_p = float(1 + random() % 1000) / 1000;
    if (random() % 2) sampling.min_p = float(random() % 100) / 200;
    if (random() % 2) sampling.repetition_penalty = 0.5f + float(random() % 20) / 10;
    ASSERT_EQ(sampler.sample(sampling, sequence, logits), reference(sampling, sequence, logits)) << "round " << round;
  }
}

TEST(Sampler, TopKKeepsExactlyKTheLowerIdsOfEqualTokens) {
  SamplingOptions sampling = at_temperature(1);
  sampling.top_k = 3;
  EXPECT_EQ(support(sampling, {1, 2, 1, 2, 1, 1}), (std::vector<int32_t>{0, 1, 3}));
}

TEST(Sampler, TopPKeepsTheFewestTokensThatReachIt) {
  // Probabilities 1/2, 1/4, 1/8, 1/8.
  const float ln2 = std::log(2.0f);
  const std::vector<float> logits = {-1 * ln2, -2 * ln2, -3 * ln2, -3 * ln2};
  SamplingOptions sampling = at_temperature(1);
  sampling.top_p = 0.4f;
  EXPECT_EQ(support(sampling, logits), (std::vector<int32_t>{0}));
  sampling.top_p = 0.6f;
  EXPECT_EQ(support(sampling, logits), (std::vector<int32_t>{0, 1}));
  sampling.top_p = 0.8f;
  EXPECT_EQ(support(sampling, logits), (std::vector<int32_t>{0, 1, 2}));
}

TEST(Sampler, TemperatureComesBeforeTopPAndTopKBeforeBoth) {
  const float ln2 = std::log(2.0f);
  const std::vector<float> logits = {-1 * ln2, -2 * ln2, -3 * ln2, -3 * ln2};
  SamplingOptions sampling = at_temperature(0.5f);  // weights 16, 4, 1, 1
  sampling.top_p = 0.7f;
  EXPECT_EQ(support(sampling, logits), (std::vector<int32_t>{0}));
  sampling = at_temperature(1);
  sampling.top_p = 0.65f;  // of all: two tokens; of the best two, 2/3 and 1/3: one
  sampling.top_k = 2;
  EXPECT_EQ(support(sampling, logits), (std::vector<int32_t>{0}));
}

TEST(Sampler, MinPKeepsTokensNearTheBest) {
  const float ln2 = std::log(2.0f);
  SamplingOptions sampling = at_temperature(1);
  sampling.min_p = 0.3f;
  EXPECT_EQ(support(sampling, {-1 * ln2, -2 * ln2, -3 * ln2, -3 * ln2}), (std::vector<int32_t>{0, 1}));
}

TEST(Sampler, AFilterThatRemovesNothingChangesNothing) {
  std::mt19937 random(3);
  const std::vector<float> logits = random_logits(200, random);
  Sampler sampler(200);
  SamplingOptions plain = at_temperature(1.5f), filtered = plain;
  filtered.top_k = 200;
  filtered.min_p = 1e-30f;
  for (size_t position = 0; position < 500; ++position)
    EXPECT_EQ(sampler.sample(plain, sequence_of(position), logits),
              sampler.sample(filtered, sequence_of(position), logits));
}

TEST(Sampler, TheChoiceDependsOnSeedAndPositionNotOnWhatWasDrawnBefore) {
  std::mt19937 random(4);
  const std::vector<float> logits = random_logits(300, random), other = random_logits(300, random);
  SamplingOptions sampling = at_temperature(1), neighbour = at_temperature(2);
  sampling.seed = 99;
  neighbour.top_p = 0.5f;
  Sampler alone(300), shared(300);
  std::vector<int32_t> tokens;
  for (size_t position = 0; position < 100; ++position) {
    tokens.push_back(alone.sample(sampling, sequence_of(position), logits));
    shared.sample(neighbour, sequence_of(random() % 7), other);
    shared.logprob(other, 5, 3);
    EXPECT_EQ(shared.sample(sampling, sequence_of(position), logits), tokens.back());
  }
  sampling.seed = 100;
  std::vector<int32_t> others;
  for (size_t position = 0; position < 100; ++position)
    others.push_back(alone.sample(sampling, sequence_of(position), logits));
  EXPECT_NE(tokens, others);
}

TEST(Sampler, RepetitionPenaltyPushesBothSignsDownOnceAToken) {
  SamplingOptions sampling;
  sampling.repetition_penalty = 2;
  Sampler sampler(3);
  // 3 / 2 < 2, however often the token occurs: 3 / 4 would be below 1.
  EXPECT_EQ(sampler.sample(sampling, std::vector<int32_t>{0, 0}, std::vector<float>{3, 2, 1}), 1);
  EXPECT_EQ(sampler.sample(sampling, std::vector<int32_t>{0, 0}, std::vector<float>{3, 1, 1}), 0);
  // -1 * 2 < -1.5
  EXPECT_EQ(sampler.sample(sampling, std::vector<int32_t>{2}, std::vector<float>{-1.5f, -3, -1}), 0);
}

TEST(Sampler, LogprobsAreTheRawLogSoftmaxBestFirst) {
  std::mt19937 random(5);
  const std::vector<float> logits = random_logits(500, random);
  Sampler sampler(500);
  long double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<long double>(logit));
  const auto expected = [&](int32_t token) { return double(logits[size_t(token)] - std::log(sum)); };
  const auto near = [&](int32_t token, float got) {
    // Rounded once to float.
    EXPECT_NEAR(got, expected(token), std::abs(expected(token)) * 0x1p-23) << "token " << token;
  };
  const TokenLogprob result = sampler.logprob(logits, 77, 20);
  EXPECT_EQ(result.token, 77);
  near(77, result.logprob);
  ASSERT_EQ(result.best.size(), 20u);
  std::vector<int32_t> order(500);
  for (size_t i = 0; i < order.size(); ++i) order[i] = int32_t(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(result.best[i].first, order[i]);
    near(order[i], result.best[i].second);
  }
  EXPECT_TRUE(sampler.logprob(logits, 77, 0).best.empty());
}

TEST(Sampler, RefusesLogitsThatAreNotNumbers) {
  Sampler sampler(3);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits :
       {std::vector<float>{1, nan, 2}, {nan, 1, 2}, {1, infinity, 2}, {-infinity, -infinity, -infinity}})
    for (const float temperature : {0.0f, 1.0f})
      EXPECT_THROW(sampler.sample(at_temperature(temperature), sequence_of(1), logits), Error);
  EXPECT_EQ(sampler.sample(at_temperature(1), sequence_of(1), std::vector<float>{-infinity, 1, -infinity}), 1);
}

// A vocabulary of fewer tokens than candidates, and ones of more; ties at the last candidate.
TEST(Sampler, CandidatesOfAnyRanksGiveTheTokenOfAllLogits) {
  constexpr double kRounding = 32 * 0x1p-23;  // of a float below 32
  std::mt19937 random(8);
  for (const size_t vocab : {50, 130, 1000}) {
    Sampler sampler{int64_t(vocab)};
    for (int round = 0; round < 300; ++round) {
      const std::vector<float> logits = random_logits(vocab, random);
      SamplingOptions sampling;
      sampling.seed = random();
      if (random() % 4) {
        sampling.temperature = 0.1f + float(random() % 30) / 10;
        sampling.top_k = int(1 + random() % kCandidates);
      }
      if (random() % 2) sampling.top_p = float(1 + random() % 1000) / 1000;
      if (random() % 2) sampling.min_p = float(random() % 100) / 200;
      ASSERT_TRUE(needs_only_candidates(sampling));
      const std::vector<int32_t> sequence = sequence_of(random() % 50);
      const int32_t token = sampler.sample(sampling, sequence, logits);
      const TokenLogprob logprob = sampler.logprob(logits, token, 20);
      for (size_t ranks = 1; ranks <= 3; ++ranks) {
        const RowCandidates row = test::candidates_of_ranks(logits, ranks);
        ASSERT_EQ(sampler.sample(sampling, sequence, row), token) << "round " << round << ", " << ranks << " ranks";
        const TokenLogprob got = sampler.logprob(row, token, 20);
        EXPECT_EQ(got.token, token);
        EXPECT_NEAR(got.logprob, logprob.logprob, kRounding);
        ASSERT_EQ(got.best.size(), logprob.best.size());
        for (size_t i = 0; i < got.best.size(); ++i) {
          EXPECT_EQ(got.best[i].first, logprob.best[i].first);
          EXPECT_NEAR(got.best[i].second, logprob.best[i].second, kRounding);
        }
      }
    }
  }
}

TEST(Sampler, RefusesCandidatesOfLogitsThatAreNotNumbers) {
  Sampler sampler(3);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits :
       {std::vector<float>{1, nan, 2}, {nan, 1, 2}, {1, infinity, 2}, {-infinity, -infinity, -infinity}})
    for (const size_t ranks : {1, 2})
      EXPECT_THROW(sampler.sample({}, sequence_of(1), test::candidates_of_ranks(logits, ranks)), Error);
  const std::vector<float> one = {-infinity, 1, -infinity};
  EXPECT_EQ(sampler.sample({}, sequence_of(1), test::candidates_of_ranks(one, 3)), 1);
}

TEST(Sampler, WhatACutByProbabilityOrAPenaltyLeavesMayNeedMoreThanCandidates) {
  SamplingOptions sampling = at_temperature(1);
  EXPECT_FALSE(needs_only_candidates(sampling));
  sampling.top_p = 0.5f;
  sampling.min_p = 0.5f;
  EXPECT_FALSE(needs_only_candidates(sampling));
  sampling.top_k = kCandidates + 1;
  EXPECT_FALSE(needs_only_candidates(sampling));
  sampling.top_k = kCandidates;
  EXPECT_TRUE(needs_only_candidates(sampling));
  sampling.logprobs = kCandidates + 1;
  EXPECT_FALSE(needs_only_candidates(sampling));
  sampling.logprobs = kCandidates;
  sampling.repetition_penalty = 1.1f;
  EXPECT_FALSE(needs_only_candidates(sampling));
}

}  // namespace
}  // namespace pleat
