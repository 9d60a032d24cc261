#include "cluster/address.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "kernels/check.h"

namespace pleat {
namespace {

constexpr const char* kUnix = "unix:";

bool is_unix(const std::string& address) { return address.starts_with(kUnix); }
std::string path_of(const std::string& address) { return address.substr(5); }

bool is_port(std::string_view text) {
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [read_to, fault] = std::from_chars(text.data(), end, port);
  return fault == std::errc() && read_to == end;
}

bool is_address(const std::string& text) {
  if (is_unix(text)) return !path_of(text).empty();
  if (text.starts_with('-')) return false;  // an option whose own value is missing before it
  const size_t host = text.starts_with('[') ? text.find(']') + 1 : std::min(text.find(':'), text.size());
  const std::string_view port = std::string_view(text).substr(host);
  return host > 0 && !text.starts_with("[]") && (port.empty() || (port[0] == ':' && is_port(port.substr(1))));
}

bool is_socket(const std::string& path) {
  struct stat status = {};
  return lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

bool refuses(const std::string& path) {
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  if (path.size() >= sizeof to.sun_path) return false;
  path.copy(to.sun_path, path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool refused = connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno == ECONNREFUSED;
  close(fd);
  return refused;
}

}  // namespace

void check_address(const std::string& text) {
  PLEAT_REQUIRE(is_address(text), "'", text,
                "' is no address, expected HOST, HOST:PORT, [IPV6]:PORT or unix:PATH with a port of 0 to 65535");
}

std::string with_default_port(const std::string& address, unsigned port) {
  check_address(address);
  const bool has_port = address.find(':') != std::string::npos && !address.ends_with(']');
  return is_unix(address) || has_port ? address : address + ":" + std::to_string(port);
}

std::string host_of(const std::string& address) {
  if (address.starts_with('[')) return address.substr(1, address.find(']') - 1);
  return address.substr(0, address.rfind(':'));
}

std::string with_port(const std::string& address, unsigned port) {
  return is_unix(address) ? address : address.substr(0, address.rfind(':') + 1) + std::to_string(port);
}

bool is_loopback(const std::string& address) {
  return is_unix(address) || address.starts_with("127.") || address.starts_with("localhost:") ||
         address.starts_with("[::1]:");
}

void remove_stale_socket(const std::string& address) {
  if (is_unix(address) && is_socket(path_of(address)) && refuses(path_of(address))) remove_socket(address);
}

void remove_socket(const std::string& address) {
  if (is_unix(address)) unlink(path_of(address).c_str());
}

}  // namespace pleat
