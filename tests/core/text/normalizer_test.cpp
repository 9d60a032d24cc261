// The normalizers of tokenizer.json files.
#include "core/text/normalizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace pleat {
namespace {

std::string normalized(const char* type, std::string_view text) {
  return make_normalizer({{"type", type}})->apply(text);
}

std::string times(std::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(Normalizer, ARunOfMarksTakesTimeInItsStride) {
  const int count = 100000;
  const std::string above = times("\u0301", count), below = times("\u0316", count);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(normalized("NFD", "a" + above + below), "a" + below + above);
  EXPECT_EQ(normalized("NFKC", "a" + above + below), "\u00e1" + below + times("\u0301", count - 1));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(Normalizer, OrdersTheMarksOfWhatIsTakenApart) {
  EXPECT_EQ(normalized("NFD", "\u1ec7\u031b"), "e\u031b\u0323\u0302");
  EXPECT_EQ(normalized("NFC", "\u00e9\u0323"), "\u1eb9\u0301");
  EXPECT_EQ(normalized("NFC", "\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(normalized("NFKD", "\ufb01\u0301\u0316\xff"), "fi\u0316\u0301\xff");
}

}  // namespace
}  // namespace pleat
