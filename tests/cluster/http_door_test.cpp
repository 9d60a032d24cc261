// Who gets through an HTTP door: names, pages, and a client's share of the connections.
#include <gtest/gtest.h>
#include <unistd.h>

#include "cluster/http/http_connections.h"
#include "kernels/check.h"
#include "tests/cluster/http_door.h"

namespace pleat::test {
namespace {

TEST(HostNames, AreThisMachinesOwnWhereOnlyItsProgramsReachTheDoor) {
  char machine[256] = {};
  gethostname(machine, sizeof machine - 1);
  const HostNames own({}, true);
  for (const std::string host : {"localhost", "LocalHost:8000", "a.localhost:80", "localhost.", "127.0.0.1",
                                 "127.0.0.1:8000", "10.1.2.3", "[::1]:8000", "[fe80::1]", ""})
    EXPECT_TRUE(own.allows(host)) << host;
  EXPECT_TRUE(own.allows(machine));
  for (const std::string host :
       {"evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost",
        "[evil.example]", "[::1", "[::1]evil", "localhost:x", "localhost:1, evil.example"})
    EXPECT_FALSE(own.allows(host)) << host;
  EXPECT_TRUE(HostNames().allows("evil.example")) << "a cluster's nodes have many names";
  for (const std::string name : {"https://chat.example", "", "a b", "[::1", "chat.example:x"})
    EXPECT_THROW(HostNames({name}, true), Error) << name;
  const HostNames listed({"Chat.example:8443"}, true), listed_elsewhere({"chat.example"}, false);
  for (const HostNames* names : {&listed, &listed_elsewhere}) {
    EXPECT_TRUE(names->allows("chat.EXAMPLE:8443"));
    EXPECT_TRUE(names->allows("127.0.0.1:8000"));
    EXPECT_FALSE(names->allows("evil.example"));
  }
}

TEST(HostNames, APageIsTheDoorsOwnOrThatOfAListedName) {
  const HostNames any, listed({"chat.example"}, true);
  EXPECT_TRUE(any.allows_page("http://here:8000", "here:8000"));
  EXPECT_FALSE(any.allows_page("http://here:8001", "here:8000"));
  EXPECT_FALSE(any.allows_page("null", "null"));
  EXPECT_FALSE(any.allows_page("https://chat.example", "127.0.0.1:8000"));
  EXPECT_TRUE(listed.allows_page("https://chat.example", "127.0.0.1:8000"))
      << "its proxy asks under the door's address";
  EXPECT_FALSE(listed.allows_page("https://chat.example.evil.example", "127.0.0.1:8000"));
}

TEST(HostNames, OthersAreRefusedByWhatTheyCallTheDoor) {
  FakeWorld world;
  world["a"];
  Door door(world, {}, {}, HostNames({"chat.example"}, true));
  EXPECT_EQ(door.get("/v1/models").status, 403) << "'here' is nobody's name";
  EXPECT_EQ(door.get("/v1/models").error(),
            "nobody may ask for 'here' here; --allowed-hosts lists the names that are more than this machine's");
}

TEST(HostNames, WhoIsRefusedIsLetGo) {
  FakeWorld world;
  Door door(world, {}, {}, HostNames({}, true));
  for (const std::string request : {"GET /health HTTP/1.0\r\nHost: evil\r\n\r\n",
                                    "GET /health HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n"}) {
    auto stream = door.connect();
    stream->write(request.data(), request.size()).wait(world.wait_scope);
    const kj::TimePoint before = world.timer.now();
    EXPECT_TRUE(world.wait(stream->readAllText()).startsWith("HTTP/1.1 403"));
    EXPECT_LT(world.timer.now() - before, 1 * kj::SECONDS);
  }
}

TEST(HttpConnections, OneClientLeavesAQuarterOfThemToOthers) {
  FakeWorld world;
  world["a"];
  HttpLimits limits;
  limits.connections = 8;
  Door door(world, limits);
  HttpConnections connections(door.gateway);
  std::vector<kj::Own<kj::AsyncIoStream>> clients;
  const auto come = [&](const std::string& client, bool ready = true) {
    auto pipe = kj::newTwoWayPipe();
    kj::Promise<kj::Own<kj::AsyncIoStream>> stream = kj::NEVER_DONE;
    if (ready) stream = kj::mv(pipe.ends[0]);
    connections.add(kj::mv(stream), client);
    clients.push_back(kj::mv(pipe.ends[1]));
  };
  for (int i = 0; i < 7; ++i) come("greedy", i % 2 == 0);  // some never end their handshake
  EXPECT_TRUE(connections.full("greedy"));
  EXPECT_FALSE(connections.full("other"));
  world.pass(1 * kj::MILLISECONDS);
  EXPECT_EQ(door.gateway.metrics.connections, 3);
  come("other");
  come("another");
  EXPECT_TRUE(connections.full("other"));
  EXPECT_FALSE(HttpConnections(door.gateway).full(HttpConnections::kLocal));
  clients.clear();
  world.pass(1 * kj::MILLISECONDS);
  EXPECT_FALSE(connections.full("greedy"));
  EXPECT_EQ(door.gateway.metrics.connections, 0);
}

}  // namespace
}  // namespace pleat::test
