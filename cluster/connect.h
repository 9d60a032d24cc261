#pragma once
// A connection to an address (address.h), through a handshake where `tls` says how.
#include <kj/async-io.h>

#include <string>

#include "cluster/tls.h"

namespace pleat {

// tls may be null.
kj::Promise<kj::Own<kj::AsyncIoStream>> connect_to(kj::Network& network, const std::string& address, Tls* tls);

}  // namespace pleat
