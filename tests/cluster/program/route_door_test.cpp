// Who gets in at the doors of `pleat serve` and `pleat route`: certificates and keys.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "cluster/connect.h"
#include "tests/cluster/program/http_client.h"
#include "tests/cluster/program/served.h"

namespace pleat::test {
namespace {

using namespace std::chrono_literals;

std::string tls(const std::string& name) { return std::string(PLEAT_SOURCE_DIR) + "/tests/fixtures/tls/" + name; }

// The answer to a GET of /ready; empty where the connection fails.
std::string over_tls(const std::string& address, const TlsFiles& files) {
  auto io = kj::setupAsyncIo();
  Tls tls(files);
  const std::string request = "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  try {
    auto stream = connect_to(io.provider->getNetwork(), address, &tls).wait(io.waitScope);
    stream->write(request.data(), request.size()).wait(io.waitScope);
    return stream->readAllText().wait(io.waitScope).cStr();
  } catch (const kj::Exception&) {
    return "";
  }
}

TEST(Route, TlsOnBothSidesLetsInOnlyThoseWithACertificate) {
  const std::string server = " --tls-certificate " + tls("server.pem") + " --tls-key " + tls("server.key") + " ";
  const std::string mutual = server + "--tls-clients " + tls("authority.pem");
  const Served served(0, "--threads 1" + mutual);
  ASSERT_NE(served.address(), "") << served.errors();
  const std::string address = "localhost" + served.address().substr(served.address().rfind(':'));
  const std::string trust = " --server-authorities " + tls("authority.pem");
  const auto as = [&](const std::string& who) {
    return trust + " --client-certificate " + tls(who + ".pem") + " --client-key " + tls(who + ".key");
  };
  const auto ask = [&](const std::string& to, const std::string& flags) {
    return pleat("ask " + to + " --prompt x --max-tokens 2" + flags).code;
  };
  EXPECT_EQ(ask(address, as("client")), 0);
  EXPECT_EQ(ask(address, ""), 1) << "without TLS";
  EXPECT_EQ(ask(address, trust), 1) << "without a certificate";
  EXPECT_EQ(ask(address, as("other-client")), 1) << "with one by somebody else";
  EXPECT_EQ(ask(served.address(), as("client")), 1) << "the server is not who it should be: 127.0.0.1";
  {
    std::vector<std::unique_ptr<HttpClient>> silent;
    for (int i = 0; i < 80; ++i) silent.push_back(std::make_unique<HttpClient>(served.address()));
    EXPECT_EQ(ask(address, as("client")), 0) << "who only connects keeps nobody else out";
  }

  const Background routed(pleat_command("route --http 127.0.0.1:0 --replica " + address + as("client") + server));
  ASSERT_NE(routed.address(), "") << routed.errors();
  const std::string door = "localhost" + routed.address().substr(routed.address().rfind(':'));
  TlsFiles trusting;
  trusting.authorities = tls("authority.pem");
  for (int i = 0; i < 200 && over_tls(door, trusting).find("\r\n\r\nready") == std::string::npos; ++i)
    std::this_thread::sleep_for(50ms);
  EXPECT_TRUE(over_tls(door, trusting).starts_with("HTTP/1.1 200 OK")) << routed.errors();
  trusting.authorities = tls("other-client.pem");
  EXPECT_EQ(over_tls(door, trusting), "") << "nobody vouches for it";
  EXPECT_THROW(HttpClient(routed.address()).get("/ready"), std::runtime_error) << "without TLS";
}

TEST(Route, MutualTlsAtItsDoorLetsInOnlyThoseWithACertificate) {
  const Scratch scratch;
  std::filesystem::copy_file(tls("authority.pem"), scratch.path("authorities"));
  const Background routed(pleat_command("route --http 127.0.0.1:0 --replica unix:" + scratch.path("nobody") +
                                        " --tls-certificate " + tls("server.pem") + " --tls-key " + tls("server.key") +
                                        " --tls-clients " + scratch.path("authorities")));
  ASSERT_NE(routed.address(), "") << routed.errors();
  const std::string door = "localhost" + routed.address().substr(routed.address().rfind(':'));
  const auto answer_to = [&](const std::string& who) {
    TlsFiles files;
    files.authorities = tls("authority.pem");
    if (!who.empty()) files.certificate = tls(who + ".pem"), files.key = tls(who + ".key");
    return over_tls(door, files);
  };
  EXPECT_TRUE(answer_to("client").starts_with("HTTP/1.1 503 ")) << "in, and no replica is there";
  EXPECT_EQ(answer_to(""), "") << "without a certificate";
  EXPECT_EQ(answer_to("other-client"), "") << "with one by somebody else";
  EXPECT_TRUE(answer_to("client").starts_with("HTTP/1.1 503 "));

  scratch.write("authorities", "none\n");
  for (int i = 0; i < 200 && routed.errors().find("certificates stay") == std::string::npos; ++i)
    std::this_thread::sleep_for(50ms);
  EXPECT_TRUE(answer_to("client").starts_with("HTTP/1.1 503 ")) << "what cannot be used changes nothing";
  std::filesystem::copy_file(tls("other-client.pem"), scratch.path("authorities"),
                             std::filesystem::copy_options::overwrite_existing);
  for (int i = 0; i < 200 && !answer_to("client").empty(); ++i) std::this_thread::sleep_for(50ms);
  EXPECT_EQ(answer_to("client"), "") << "the authority is another one now";
}

TEST(Route, KeysAreThoseThatTheirFileHoldsNow) {
  const Scratch scratch;
  scratch.write("keys", "first-key\n");
  const Background routed(pleat_command("route --http 127.0.0.1:0 --replica unix:" + scratch.path("nobody") +
                                        " --api-keys " + scratch.path("keys")));
  ASSERT_NE(routed.address(), "") << routed.errors();
  const auto status = [&](const std::string& key) {
    return HttpClient(routed.address()).get("/v1/models", "Authorization: Bearer " + key + "\r\n");
  };
  EXPECT_EQ(status("first-key"), 200);
  EXPECT_EQ(status("second-key"), 401);
  scratch.write("keys", "second-key\n");
  for (int i = 0; i < 200 && status("second-key") == 401; ++i) std::this_thread::sleep_for(50ms);
  EXPECT_EQ(status("second-key"), 200);
  EXPECT_EQ(status("first-key"), 401);
  scratch.write("keys", "");
  for (int i = 0; i < 200 && routed.errors().find("keys stay") == std::string::npos; ++i)
    std::this_thread::sleep_for(50ms);
  EXPECT_EQ(status("second-key"), 200) << "an empty file does not open the door";
  EXPECT_EQ(status("first-key"), 401);
}

}  // namespace
}  // namespace pleat::test
