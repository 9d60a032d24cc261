#pragma once
// Where a server listens: "HOST", "HOST:PORT", "[IPV6]:PORT", "unix:PATH".
#include <string>

namespace pleat {

constexpr unsigned kDefaultPort = 7532;

// Error(invalid) where the text is none of these: no host or path, or a port that is no number from 0 to 65535.
void check_address(const std::string& text);
// With that port where the text has none; checked.
std::string with_default_port(const std::string& address, unsigned port = kDefaultPort);
// Another port instead of the one it has; a unix socket has none and stays.
std::string with_port(const std::string& address, unsigned port);
// Without the port, and an IPv6 address without its brackets.
std::string host_of(const std::string& address);
// Only this host can reach it.
bool is_loopback(const std::string& address);

// Of "unix:PATH": removes a socket that nobody listens to any more. Other files stay.
void remove_stale_socket(const std::string& address);
// The socket's file, when its server ends.
void remove_socket(const std::string& address);

}  // namespace pleat
