#pragma once
// How patient a router is.
#include <kj/time.h>

namespace pleat {

struct RouterOptions {
  kj::Duration connect_timeout = 5 * kj::SECONDS;  // a connection, and the replica's first words
  kj::Duration stats_period = 500 * kj::MILLISECONDS;
  kj::Duration stats_timeout = 3 * kj::SECONDS;   // for an answer; then the replica counts as gone
  kj::Duration piece_timeout = 30 * kj::SECONDS;  // without progress of a text, or of a replica that has some to write
  kj::Duration patience = 15 * kj::SECONDS;       // with a text that has begun and that no replica can go on with
};

}  // namespace pleat
