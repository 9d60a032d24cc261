#pragma once
// Someone who wants a text of the router, and reads it in one way or another.
#include <optional>

#include "cluster/refusal.h"
#include "tests/cluster/simulation/simulated_router.h"
#include "tests/cluster/simulation/toy_model.h"

namespace pleat::test {

enum class Manner { reads, reads_slowly, stops_reading, leaves, fails };

// What befalls the connection of one client of the door.
struct LineFault {
  enum Kind { stall, reset, deaf, mute, dead };  // as a Fault's; dead: both
  Kind kind;
  kj::Duration after, lasts;  // from its beginning; the stall, or until the client gives up
};

struct ClientPlan {
  int number = 0;
  kj::TimePoint arrives = kj::origin<kj::TimePoint>();
  Manner manner = Manner::reads;
  Request request;
  uint32_t deadline_ms = 0;             // 0: none
  size_t patience = SIZE_MAX;           // pieces, after which it stops reading, leaves or fails
  kj::Duration pace = 0 * kj::SECONDS;  // a piece, at most
  bool meets_faults = true;
  bool comes_again = false;  // when it is told to, until it gets its text
  bool fits = true;          // there could be room for it; else it has to be told at once
  int64_t most_ahead = 0;    // tokens that a replica may write for a client that takes none

  // Over HTTP.
  bool streams = true, wants_usage = false;
  int n = 1;  // texts
  CableQuality line;
  std::optional<LineFault> fault;
};

class SimulatedClient {
 public:
  // What became of it.
  enum class End { none, whole, refused, left };

  SimulatedClient(kj::Timer& timer, Record& record, SimulatedRouter& router, ClientPlan plan, Random random);
  virtual ~SimulatedClient() noexcept(false) = default;
  KJ_DISALLOW_COPY(SimulatedClient);

  End end() const { return end_; }
  // Of one that comes while nothing is wrong.
  End due() const { return plan_.fits ? End::whole : End::refused; }
  rpc::Error::Code refusal() const { return refusal_; }
  virtual int moves() const { return 0; }  // of its texts, as far as it can know

  // The router's process will be no more. `told`: its connections end by themselves.
  virtual void lose_router(bool told) = 0;
  // An engine has written so many of its tokens.
  void asked(int64_t written);

 protected:
  virtual void arrive() = 0;
  void come_again(kj::Duration delay);
  // Refused, at last or until it comes again. begun: it had a part of its text.
  void refused(rpc::Error::Code code, const char* sentence, uint32_t wait_ms, bool begun);
  virtual bool may_be_refused(rpc::Error::Code code) const;
  void close(End end);
  bool over() const { return end_ != End::none; }

  kj::Timer& timer_;
  Record& record_;
  SimulatedRouter& router_;
  const ClientPlan plan_;
  Random random_;
  int times_ = 0;     // that it came
  size_t taken_ = 0;  // tokens, the most of all times

 private:
  End end_ = End::none;
  kj::TimePoint ended_ = kj::origin<kj::TimePoint>();
  rpc::Error::Code refusal_ = rpc::Error::Code::INTERNAL;
  kj::Promise<void> arriving_;
};

}  // namespace pleat::test
