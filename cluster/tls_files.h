#pragma once
#include <string>

namespace pleat {

// PEM files of one side of TLS connections.
struct TlsFiles {
  std::string certificate, key;  // of this side, with the chain; empty: none
  std::string authorities;       // whose certificates the other side may have; empty: see tls.h

  bool any() const { return !certificate.empty() || !key.empty() || !authorities.empty(); }
};

}  // namespace pleat
