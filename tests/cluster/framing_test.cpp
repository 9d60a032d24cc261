#include "cluster/http/framing.h"

#include <gtest/gtest.h>

#include <random>

namespace pleat::test {
namespace {

FramingLimits small() { return {512, 100, 200}; }

struct Seen {
  std::string out;
  int status;
  bool in_header;
};

// Bytes that come in pieces of at most so many.
Seen see(const std::string& bytes, size_t piece = 1 << 20) {
  Framing framing(small());
  Seen seen;
  for (size_t i = 0; i < bytes.size(); i += piece) framing.take(std::string_view(bytes).substr(i, piece), seen.out);
  seen.status = framing.fault().status;
  seen.in_header = framing.fault_in_header();
  return seen;
}

const std::string kGet = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string kPost = "POST / HTTP/1.1\r\nhost: x\r\nContent-LENGTH:  5 \r\n\r\nhello";
const std::string kChunks =
    "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00a ; name=value\r\n0123456789\r\n0\r\n\r\n";

TEST(Framing, LetsProperRequestsThroughInPiecesOfAnySize) {
  const std::string all = kGet + kPost + kChunks + "\r\n" + kGet + kChunks + kPost;
  // Without the empty line, white space behind values, and what stands behind a chunk's size.
  const std::string post = "POST / HTTP/1.1\r\nhost: x\r\nContent-LENGTH:  5\r\n\r\nhello";
  const std::string chunks =
      "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n";
  const std::string expected = kGet + post + chunks + kGet + chunks + post;
  for (size_t piece = 1; piece <= 40; ++piece) {
    const Seen seen = see(all, piece);
    EXPECT_EQ(seen.status, 0) << piece;
    EXPECT_EQ(seen.out, expected) << piece;
  }
}

TEST(Framing, RefusesHeadersThatTwoReadersCouldReadDifferently) {
  const std::string line = "POST / HTTP/1.1\r\n";
  for (const std::string header : {
           "Content-Length: -1",
           "Content-Length: +1",
           "Content-Length: 0x5",
           "Content-Length: 5, 5",
           "Content-Length: 99999999999999999999",
           "Content-Length: 18446744073709551621",
           "Content-Length:",
           "Content-Length: 5\r\nContent-Length: 5",
           "Content-Length: 5\r\nTransfer-Encoding: chunked",
           "Transfer-Encoding: chunked\r\nContent-Length: 5",
           "Transfer-Encoding: gzip, chunked",
           "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
           "Transfer-Encoding: identity",
           "Content-Length : 5",
           "Content Length: 5",
           " Content-Length: 5",
           "Host: x\r\n folded",
           "Host: x\nContent-Length: 5",
           "Host: x\rContent-Length: 5",
           "no colon",
           ": no name",
       }) {
    const Seen seen = see(line + header + "\r\n\r\nhello");
    EXPECT_EQ(seen.status, 400) << header;
    EXPECT_TRUE(seen.in_header);
    EXPECT_EQ(seen.out, "") << "nobody may see any of it: " << header;
  }
  EXPECT_EQ(see(std::string("GET / HTTP/1.1\r\nHost: \0\r\n\r\n", 28)).status, 400);
  EXPECT_EQ(see("GET / HTTP/2.0\r\n\r\n").status, 400);
  EXPECT_EQ(see("GET /\r\n\r\n").status, 400);
  EXPECT_EQ(see("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").status, 400);
}

TEST(Framing, RefusesChunksThatAreNot) {
  const std::string header = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string body : {
           "10000000000000005\r\nhello\r\n",
           "-1\r\n",
           "\r\nhello",
           "g\r\n",
           "0x5\r\nhello\r\n",
           "5\nhello\r\n",
           "5\r\nhello!\r\n",
           "5\r\nhello\n",
           "0\r\nTrailer: x\r\n\r\n",
       })
    EXPECT_EQ(see(header + body).status, 400) << body;
  EXPECT_EQ(see(header + std::string(300, '0')).status, 400) << "an endless line";
}

TEST(Framing, HoldsItsLimits) {
  EXPECT_EQ(see("GET / HTTP/1.1\r\nX: " + std::string(600, 'x') + "\r\n\r\n").status, 431);
  EXPECT_EQ(see("POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n").status, 413);
  EXPECT_EQ(see("POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n").status, 0);
  EXPECT_EQ(see("POST /v1/files HTTP/1.1\r\nContent-Length: 200\r\n\r\n").status, 0);
  EXPECT_EQ(see("POST /v1/files HTTP/1.1\r\nContent-Length: 201\r\n\r\n").status, 413);
  EXPECT_EQ(see("POST /v1/files/ HTTP/1.1\r\nContent-Length: 200\r\n\r\n").status, 413);
  std::string chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 10; ++i) chunks += "a\r\n0123456789\r\n";
  EXPECT_EQ(see(chunks).status, 0);
  EXPECT_EQ(see(chunks + "1\r\n").status, 413);
}

TEST(Framing, NothingComesAfterAFault) {
  const Seen seen = see(kGet + "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n" + kGet);
  EXPECT_EQ(seen.out, kGet);
  EXPECT_EQ(seen.status, 400);
}

TEST(Framing, AnyBytesDoNoHarm) {
  std::mt19937 random(1);
  const std::string pieces[] = {kGet, kPost, kChunks, "\r\n", "Content-Length: 5", "0\r\n\r\n", std::string(1, '\0')};
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int i = 0; i < 5; ++i) bytes += pieces[random() % 7];
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = char(random());
    const Seen whole = see(bytes), single = see(bytes, 1);
    EXPECT_EQ(whole.out, single.out);
    EXPECT_EQ(whole.status, single.status);
    EXPECT_LE(whole.out.size(), bytes.size());
  }
}

}  // namespace
}  // namespace pleat::test
