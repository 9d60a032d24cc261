#include "cluster/http/http_connections.h"

namespace pleat {

void HttpConnections::add(kj::Own<kj::AsyncIoStream> stream, std::string client) {
  if (full()) return;
  auto connection = kj::heap<HttpConnection>(gateway_, kj::mv(stream), std::move(client));
  auto over = connection->run();
  tasks_.add(over.attach(kj::mv(connection)));
}

}  // namespace pleat
