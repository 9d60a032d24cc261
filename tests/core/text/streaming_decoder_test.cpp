#include <gtest/gtest.h>

#include <random>

#include "tests/core/text/gpt2_tokenizer.h"

namespace pleat {
namespace {

std::vector<std::string> stream(const std::vector<int32_t>& ids) {
  StreamingDecoder decoder(embedded());
  std::vector<std::string> parts;
  for (const int32_t id : ids) parts.push_back(decoder.push(id));
  parts.push_back(decoder.flush());
  return parts;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

// One token a byte, whatever the merges say.
std::vector<int32_t> byte_ids(const std::string& bytes) {
  std::vector<int32_t> ids;
  for (const char byte : bytes) ids.push_back(embedded().encode(std::string(1, byte)).at(0));
  return ids;
}

TEST(StreamingDecoder, HoldsACharacterBackUntilItIsComplete) {
  EXPECT_EQ(stream(byte_ids("a🦙b")), (std::vector<std::string>{"a", "", "", "", "🦙", "b", ""}));
}

TEST(StreamingDecoder, ReplacesWhatNeverBecomesACharacter) {
  // The examples of the Unicode standard, table 3-8 and 3-11, and a tail cut off.
  EXPECT_EQ(joined(stream(byte_ids("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"))), "��������A");
  EXPECT_EQ(joined(stream(byte_ids("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"))), "����A");
  EXPECT_EQ(joined(stream(byte_ids("a\xf0\x9f\xa6"))), "a�");
}

TEST(StreamingDecoder, GivesNoTextForSpecialAndUnknownTokens) {
  std::vector<int32_t> ids = byte_ids("é");
  ids.insert(ids.begin() + 1, {0, -1, 1 << 20});
  EXPECT_EQ(joined(stream(ids)), "é");
}

TEST(StreamingDecoder, GivesOnlyCompleteCharactersAndLosesNone) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 500; ++trial) {
    std::string text;
    for (int i = 0; i < 20; ++i) append_utf8(char32_t(random() % (i % 2 ? 0xd800 : 0x500)), text);
    const auto parts = stream(trial % 2 ? byte_ids(text) : embedded().encode(text));
    EXPECT_EQ(joined(parts), text);
    for (const std::string& part : parts) EXPECT_EQ(valid_utf8_prefix(part), part.size());
  }
}

TEST(StreamingDecoder, NeverGivesIllFormedText) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<int32_t> ids(random() % 30);
    for (int32_t& id : ids) id = int32_t(random() % 4096);
    for (const std::string& part : stream(ids)) EXPECT_EQ(valid_utf8_prefix(part), part.size());
  }
}

}  // namespace
}  // namespace pleat
