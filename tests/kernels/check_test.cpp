#include "kernels/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <sstream>

namespace pleat {
namespace {

// A stream is what it has to agree with.
template <class... Args>
std::string by_stream(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

TEST(Concat, JoinsAsAStreamDoes) {
  const std::string text = "rank ";
  const std::filesystem::path path = R"(/tmp/a "b"\c)";
  EXPECT_EQ(concat(text, -3, ", ", size_t(1) << 63, ' ', true, ", ", path, std::string_view(" end")),
            by_stream(text, -3, ", ", size_t(1) << 63, ' ', true, ", ", path, std::string_view(" end")));
  for (const double number : {0.0, -0.0, 0.1, 1.0 / 3, 123456.0, 1234567.0, 1e-5, -2.5e300, HUGE_VAL})
    EXPECT_EQ(concat(number, '|', float(number)), by_stream(number, '|', float(number)));
  EXPECT_EQ(concat(), "");
}

TEST(WithContext, PutsWordsInFrontOfAnErrorOfTheSameKind) {
  try {
    with_context("layer 7", [] { throw Error(ErrorKind::unimplemented, "no such activation"); });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unimplemented);
    EXPECT_STREQ(error.what(), "layer 7: no such activation");
  }
}

}  // namespace
}  // namespace pleat
