// `pleat bench`: the bytes that it counts, and what it refuses to compare.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/launcher/program.h"

namespace pleat::test {
namespace {

using nlohmann::json;

std::vector<json> lines_of(const Outcome& outcome) {
  std::vector<json> lines;
  std::istringstream in(outcome.out);
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

TEST(Bench, FoldedFfnsReadTheShareThatIsAskedFor) {
  const Outcome outcome = pleat("bench fold --synthetic tiny --tokens 4 --json", 2);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<json> lines = lines_of(outcome);
  ASSERT_EQ(lines.size(), 4u);
  const double dense = 2 * 2 * 2.0 * 128 * 512;  // two layers of two bf16 matrices
  for (size_t i = 0; i < lines.size(); ++i) {
    const double bytes = lines[i]["ffn_bytes"].get<double>(), read[] = {1, 0.5, 0.3, 0.2};
    EXPECT_DOUBLE_EQ(lines[i]["ffn_speedup_by_bytes"].get<double>(), dense / bytes);
    EXPECT_NEAR(bytes / dense, read[i], 0.2 * read[i]) << lines[i];  // as many neurons as chance takes
  }
}

// What a static selection leaves out of the folder cannot be run densely.
TEST(Bench, MeasuresAModelThatOnlyRunsFolded) {
  const Scratch scratch;
  const std::string folded = scratch.path("static");
  const Outcome fold = pleat("fold --quiet --model " + model() + " --text " + PLEAT_SOURCE_DIR +
                             "/docs/folding.md --max-tokens 1024 --select static --out " + folded);
  ASSERT_EQ(fold.code, 0) << fold.err;
  const Outcome decode = pleat("bench decode --tokens 4 --json --model " + folded);
  ASSERT_EQ(decode.code, 0) << decode.err;
  ASSERT_EQ(lines_of(decode).size(), 1u);
  EXPECT_EQ(lines_of(decode)[0]["subject"], "folded");
  const Outcome compared = pleat("bench fold --model " + folded);
  EXPECT_EQ(compared.code, 2);
  EXPECT_NE(compared.err.find("does not run both densely and folded"), std::string::npos) << compared.err;
}

}  // namespace
}  // namespace pleat::test
