#include "core/engine/text_stream.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/core/engine/byte_tokenizer.h"

namespace pleat::test {
namespace {

struct Streamed {
  std::vector<std::string> pieces;
  std::string text;  // the pieces together
  bool stopped = false;
};

Streamed stream(const std::vector<int32_t>& tokens, const std::vector<std::string>& stop) {
  TextStream text(byte_tokenizer(), stop);
  Streamed result;
  for (const int32_t token : tokens) {
    if (text.stopped()) break;
    result.pieces.push_back(text.push(token));
  }
  result.pieces.push_back(text.finish());
  for (const std::string& piece : result.pieces) result.text += piece;
  result.stopped = text.stopped();
  EXPECT_EQ(text.text(), result.text);
  return result;
}

// The text up to the stop string that is complete first, of several the longest.
std::string cut(const std::string& text, const std::vector<std::string>& stop) {
  for (size_t length = 0; length <= text.size(); ++length) {
    size_t longest = 0;
    for (const std::string& candidate : stop)
      if (text.substr(0, length).ends_with(candidate)) longest = std::max(longest, candidate.size());
    if (longest > 0) return text.substr(0, length - longest);
  }
  return text;
}

TEST(TextStream, EndsBeforeAStopStringSplitOverTokens) {
  const Streamed result = stream(bytes_of("hello STOP more"), {"STOP"});
  EXPECT_EQ(result.text, "hello ");
  EXPECT_TRUE(result.stopped);
}

TEST(TextStream, HoldsBackOnlyWhatCouldBecomeAStopString) {
  const Streamed result = stream(bytes_of("xSTxy"), {"STOP"});
  EXPECT_EQ(result.pieces, (std::vector<std::string>{"x", "", "", "STx", "y", ""}));
  EXPECT_FALSE(result.stopped);
}

TEST(TextStream, GivesTheHeldTextWhenTheTokensEnd) {
  EXPECT_EQ(stream(bytes_of("the ST"), {"STOP"}).text, "the ST");
  EXPECT_EQ(stream({'a', 0xC3}, {}).text, "a\xef\xbf\xbd");
  EXPECT_EQ(stream({'a', 0xC3, 0xA9}, {}).text, "a\xc3\xa9");
}

TEST(TextStream, SpecialAndUnknownTokensGiveNoText) {
  EXPECT_EQ(stream({'a', kEndOfText, 'b', int32_t(kBytesVocab) - 1}, {}).text, "ab");
}

TEST(TextStream, TheCutDoesNotDependOnHowTheTextIsCutIntoTokens) {
  std::mt19937 random(1);
  const std::vector<std::string> words = {"a", "b", "c", "ab", "bc", "ca", "abc", "cab", "abcab", "bcb", "caa"};
  int stopped = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stop(random() % 4);
    for (std::string& word : stop) word = words[3 + random() % (words.size() - 3)];
    std::vector<int32_t> tokens(random() % 12);
    std::string text;
    for (int32_t& token : tokens) {
      const size_t choice = random() % 7;
      token = choice < 3 ? int32_t('a' + choice) : int32_t(256 + choice - 3);
      text += choice < 3 ? std::string(1, char('a' + choice)) : long_pieces()[choice - 3];
    }
    const Streamed result = stream(tokens, stop);
    ASSERT_EQ(result.text, cut(text, stop)) << text;
    stopped += result.stopped;
  }
  EXPECT_GT(stopped, 500);
}

}  // namespace
}  // namespace pleat::test
