#include "cluster/admission.h"

#include <gtest/gtest.h>

namespace pleat::test {
namespace {

kj::TimePoint at(int64_t ms) { return kj::origin<kj::TimePoint>() + ms * kj::MILLISECONDS; }

TEST(Admission, HoldsItsBoundsAndLetsALargerRequestInAlone) {
  Admission admission(3, 100);
  EXPECT_TRUE(admission.admit(60, at(0)));
  EXPECT_TRUE(admission.admit(40, at(0)));
  EXPECT_FALSE(admission.admit(1, at(0))) << "tokens";
  admission.leave(60, at(0));
  EXPECT_TRUE(admission.admit(10, at(0)));
  EXPECT_TRUE(admission.admit(10, at(0)));
  EXPECT_FALSE(admission.admit(0, at(0))) << "requests";
  EXPECT_EQ(admission.requests(), 3);
  EXPECT_EQ(admission.tokens(), 60);
  for (const int64_t tokens : {40, 10, 10}) admission.leave(tokens, at(1));
  EXPECT_TRUE(admission.admit(1000, at(0)));
  EXPECT_FALSE(admission.admit(1, at(0)));
  admission.leave(1000, at(2));
  EXPECT_EQ(admission.requests(), 0);
  EXPECT_EQ(admission.tokens(), 0);
}

TEST(Admission, CouldHoldWhatItAdmitsWhileNothingElseIsThere) {
  for (int64_t most_requests = 1; most_requests <= 4; ++most_requests)
    for (int64_t most_tokens = 0; most_tokens <= 12; ++most_tokens)
      for (int64_t requests = 1; requests <= 5; ++requests)
        for (int64_t each = 0; each <= 13; ++each) {
          Admission admission(most_requests, most_tokens);
          int64_t admitted = 0;
          while (admitted < requests && admission.admit(each, at(0))) ++admitted;
          EXPECT_EQ(Admission(most_requests, most_tokens).could_hold(requests, requests * each), admitted == requests)
              << requests << " of " << each << " into " << most_requests << " of " << most_tokens;
        }
}

TEST(Admission, TellsEachOneTurnedAwayToWaitForOneEndMore) {
  Admission admission(1, 100);
  ASSERT_TRUE(admission.admit(1, at(0)));
  EXPECT_EQ(admission.retry_after() / kj::MILLISECONDS, 1000) << "nothing has ended yet";
  for (int i = 0; i < 5; ++i) {
    admission.leave(1, at(200 * i));
    ASSERT_TRUE(admission.admit(1, at(200 * i)));
  }
  EXPECT_EQ(admission.retry_after() / kj::MILLISECONDS, 200);
  EXPECT_EQ(admission.retry_after() / kj::MILLISECONDS, 400);
  EXPECT_EQ(admission.retry_after() / kj::MILLISECONDS, 600);
  admission.leave(1, at(1000));
  EXPECT_EQ(admission.retry_after() / kj::MILLISECONDS, 200) << "those turned away may come now";
  for (int i = 0; i < 1000; ++i) admission.retry_after();
  EXPECT_EQ(admission.retry_after() / kj::MILLISECONDS, 60'000);
}

TEST(Admission, TimeWithoutRequestsIsNoTimeBetweenEnds) {
  Admission admission(1, 100);
  for (const int begin : {0, 600'000, 1'200'000})
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(admission.admit(1, at(begin + 200 * i)));
      admission.leave(1, at(begin + 200 * i + 200));
    }
  EXPECT_EQ(admission.retry_after() / kj::MILLISECONDS, 200);
}

TEST(Admission, HasRoomForWhatWouldBeAdmittedOneAfterTheOther) {
  for (int64_t there = 0; there <= 3; ++there)
    for (int64_t requests = 1; requests <= 4; ++requests)
      for (int64_t each = 0; each <= 13; ++each) {
        Admission admission(3, 12);
        for (int64_t i = 0; i < there; ++i) ASSERT_TRUE(admission.admit(2, at(0)));
        EXPECT_EQ(admission.full(), there == 3);
        const bool room = admission.has_room(requests, requests * each);
        int64_t admitted = 0;
        while (admitted < requests && admission.admit(each, at(0))) ++admitted;
        EXPECT_EQ(room, admitted == requests) << there << ", then " << requests << " of " << each;
      }
}

}  // namespace
}  // namespace pleat::test
