// Addresses, and the files that list them and keys.
#include "cluster/address.h"

#include <gtest/gtest.h>

#include "cluster/http/api_keys.h"
#include "cluster/router/address_file.h"
#include "kernels/check.h"
#include "tests/temporary_folder.h"

namespace pleat::test {
namespace {

template <class F>
std::string complaint_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid);
    return error.what();
  }
  return "";
}

TEST(Address, HasAHostOrAPathAndAPortThatIsOne) {
  for (const char* address : {"h", "h:0", "h:65535", "127.0.0.1:1", "*:80", "[::1]", "[::1]:80", "unix:/a:b"})
    EXPECT_EQ(complaint_of([&] { check_address(address); }), "") << address;
  for (const char* address : {"", ":80", "h:", "h:65536", "h:-1", "h:+1", "h:x", "h:8 ", "h:1:2", "::1", "[]:80",
                              "[::1", "[::1]80", "unix:", "--http"})
    EXPECT_NE(complaint_of([&] { check_address(address); }), "") << address;
  EXPECT_EQ(complaint_of([] { with_default_port("127.0.0.1:99999"); }),
            "'127.0.0.1:99999' is no address, expected HOST, HOST:PORT, [IPV6]:PORT or unix:PATH with a port of 0 to "
            "65535");
}

TEST(LineFile, AByteOrderMarkIsNoPartOfTheFirstLine) {
  const TemporaryFolder folder;
  const std::string addresses = folder.write("replicas",
                                             "\xef\xbb\xbf"
                                             "a\nb\n");
  EXPECT_EQ(AddressFile(addresses).changed(), (std::vector<std::string>{"a", "b"}));
  const ApiKeys keys = ApiKeys::read(folder.write("keys",
                                                  "\xef\xbb\xbf"
                                                  "# ours\nfirst-key-123\n"));
  EXPECT_EQ(keys.find("first-key-123"), 0u) << "the comment is one";
  EXPECT_EQ(ApiKeys::read(folder.write("keys",
                                       "\xef\xbb\xbf"
                                       "first-key-123\n"))
                .find("first-key-123"),
            0u);
}

TEST(LineFile, AFolderIsCalledOne) {
  const TemporaryFolder folder;
  const std::string sentence = "'" + folder.path().string() + "' is a folder";
  EXPECT_EQ(complaint_of([&] { ApiKeys::read(folder.path()); }), sentence);
  EXPECT_EQ(complaint_of([&] { AddressFile(folder.path()).changed(); }), sentence);
}

}  // namespace
}  // namespace pleat::test
