#include "cluster/http/http_connections.h"

namespace pleat {

// A connection's, from when it comes to its end.
class HttpConnections::Place {
 public:
  Place(HttpConnections& connections, const std::string& client) : connections_(connections), client_(client) {
    ++connections_.all_;
    ++connections_.of_client_[client_];
  }
  ~Place() {
    --connections_.all_;
    const auto found = connections_.of_client_.find(client_);
    if (--found->second == 0) connections_.of_client_.erase(found);
  }
  KJ_DISALLOW_COPY(Place);

 private:
  HttpConnections& connections_;
  const std::string client_;
};

bool HttpConnections::full(const std::string& client) const {
  const int64_t most = gateway_.limits.connections, most_of_client = client == kLocal ? most : most - most / 4;
  const auto found = of_client_.find(client);
  return all_ >= most || (found != of_client_.end() && found->second >= most_of_client);
}

void HttpConnections::add(kj::Promise<kj::Own<kj::AsyncIoStream>> stream, const std::string& client) {
  if (full(client)) return;
  auto place = kj::heap<Place>(*this, client);
  auto over = stream.then([this, client](kj::Own<kj::AsyncIoStream> ready) {
    auto connection = kj::heap<HttpConnection>(gateway_, kj::mv(ready), client);
    auto answered = connection->run();
    return answered.attach(kj::mv(connection));
  });
  tasks_.add(over.attach(kj::mv(place)));
}

}  // namespace pleat
