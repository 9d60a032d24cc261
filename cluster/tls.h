#pragma once
// TLS for connections (kj-tls on OpenSSL), from PEM files.
#include <kj/async-io.h>
#include <kj/compat/tls.h>

#include <memory>
#include <string>

#include "cluster/tls_files.h"

namespace pleat {

class Tls {
 public:
  // Error(invalid) where a file cannot be read or does not hold what it should.
  explicit Tls(const TlsFiles& files);

  // A handshake as the server. With authorities a client needs a certificate by one of them.
  kj::Promise<kj::Own<kj::AsyncIoStream>> accept(kj::Own<kj::AsyncIoStream> stream);
  // As the client: the server's certificate has to be by one of the authorities (the system's where none are given),
  // for that name.
  kj::Promise<kj::Own<kj::AsyncIoStream>> connect(kj::Own<kj::AsyncIoStream> stream, const std::string& host);

 private:
  kj::Own<kj::TlsContext> context_;
};

}  // namespace pleat
