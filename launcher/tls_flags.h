#pragma once
// Flags for TLS. Each side of a connection has a certificate, or knows whose certificates it trusts, or both.
#include "cluster/tls_files.h"

namespace CLI {
class App;
}

namespace pleat {

// --tls-certificate, --tls-key and --tls-clients, of a side that clients connect to.
void add_server_tls_flags(CLI::App& app, TlsFiles& files);
// --server-authorities, --client-certificate and --client-key, of the side that connects to servers.
void add_client_tls_flags(CLI::App& app, TlsFiles& files);

}  // namespace pleat
