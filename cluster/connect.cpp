#include "cluster/connect.h"

#include "cluster/address.h"

namespace pleat {

kj::Promise<kj::Own<kj::AsyncIoStream>> connect_to(kj::Network& network, const std::string& text, Tls* tls) {
  const std::string address = with_default_port(text);
  return kj::evalNow([&] { return network.parseAddress(address.c_str()); })
      .then([](kj::Own<kj::NetworkAddress> to) {
        auto connected = to->connect();
        return connected.attach(kj::mv(to));
      })
      .then(
          [tls, host = host_of(address)](kj::Own<kj::AsyncIoStream> stream) -> kj::Promise<kj::Own<kj::AsyncIoStream>> {
            if (tls) return tls->connect(kj::mv(stream), host);
            return kj::mv(stream);
          });
}

}  // namespace pleat
