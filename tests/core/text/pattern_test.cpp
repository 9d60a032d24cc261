// Oniguruma's expressions, where they mean something else in PCRE2.
#include "core/text/pattern.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/check.h"

namespace pleat {
namespace {

std::vector<std::string> matches(const char* expression, std::string_view text) {
  std::vector<std::string> found;
  Pattern(nlohmann::json{{"pattern", {{"Regex", expression}}}}).each(text, [&](std::string_view piece, bool match) {
    if (match) found.emplace_back(piece);
  });
  return found;
}

TEST(Pattern, MatchesAsOnigurumaDoes) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(matches("^a", "ab\nac\nba"), (Texts{"a", "a"}));
  EXPECT_EQ(matches("b$", "ab\nb\nba"), (Texts{"b", "b"}));
  EXPECT_EQ(matches(R"(\h+)", "xaF09 \tg"), Texts{"aF09"});
  EXPECT_EQ(matches(R"([\hx]+)", "xaF0 \tg"), Texts{"xaF0"});
  EXPECT_EQ(matches(R"(\H+)", "aF \tg0"), Texts{" \tg"});
  EXPECT_EQ(matches("(?i:M)(?<name>m)", "Mmm"), Texts{"Mm"});
}

TEST(Pattern, RefusesTheOptionM) {
  for (const char* expression : {"(?m)a.b", "(?im:a.b)", "a(?-m:b)", R"([\H])"})
    EXPECT_THROW(matches(expression, ""), Error) << expression;
}

}  // namespace
}  // namespace pleat
