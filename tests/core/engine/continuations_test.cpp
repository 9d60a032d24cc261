// Where a text is parted into context and continuation.
#include "core/engine/continuations.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/checkpoint/file.h"
#include "kernels/check.h"
#include "tests/core/engine/run.h"

namespace pleat::test {
namespace {

TEST(Continuation, StandsBehindASpecialTokenThatTheModelExpects) {
  const nlohmann::json tokenizer = nlohmann::json::parse(read_whole(fixture("families/tokenizer.json")));
  nlohmann::json config = nlohmann::json::parse(read_whole(fixture("families/tokenizer_config.json")));
  const Tokenizer without = Tokenizer::from_json(tokenizer, config);
  config["add_bos_token"] = true;
  const Tokenizer with = Tokenizer::from_json(tokenizer, config);
  const std::string context = "The answer: ", continuation = "a word";
  const Continuation expected = continuation_tokens(without, context, continuation);
  std::vector<int32_t> whole = expected.context;
  whole.insert(whole.end(), expected.continuation.begin(), expected.continuation.end());
  EXPECT_EQ(whole, without.encode(context + continuation));
  EXPECT_EQ(expected.context, without.encode("The answer:"));

  const Continuation parted = continuation_tokens(with, context, continuation);
  EXPECT_EQ(parted.continuation, expected.continuation);
  std::vector<int32_t> behind = with.leading_special();
  ASSERT_FALSE(behind.empty());
  behind.insert(behind.end(), expected.context.begin(), expected.context.end());
  EXPECT_EQ(parted.context, behind);
}

TEST(Continuation, HasTokensOfItsOwnAndSoHasItsContext) {
  const Tokenizer tokenizer = Tokenizer::open(embedded_model());
  EXPECT_THROW(continuation_tokens(tokenizer, "The answer", ""), Error);
  EXPECT_THROW(continuation_tokens(tokenizer, " \n", "a word"), Error);
}

}  // namespace
}  // namespace pleat::test
