#include "launcher/tls_flags.h"

#include <CLI/CLI.hpp>

namespace pleat {

void add_server_tls_flags(CLI::App& app, TlsFiles& files) {
  CLI::Option* key = app.add_option("--tls-key", files.key, "TLS: this side's private key, PEM");
  CLI::Option* certificate =
      app.add_option("--tls-certificate", files.certificate, "TLS: its certificate with the chain, PEM")->needs(key);
  key->needs(certificate);
  app.add_option("--tls-clients", files.authorities, "Mutual TLS: authorities of the clients' certificates, PEM")
      ->needs(key);
}

void add_client_tls_flags(CLI::App& app, TlsFiles& files) {
  CLI::Option* authorities = app.add_option("--server-authorities", files.authorities,
                                            "TLS towards servers: authorities of their certificates, PEM");
  CLI::Option* key =
      app.add_option("--client-key", files.key, "Mutual TLS towards servers: this side's private key, PEM");
  key->needs(authorities);
  CLI::Option* certificate =
      app.add_option("--client-certificate", files.certificate, "Mutual TLS towards servers: its certificate, PEM");
  certificate->needs(key);
  key->needs(certificate);
}

}  // namespace pleat
