#include "cluster/address.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

namespace pleat {
namespace {

constexpr const char* kUnix = "unix:";

bool is_unix(const std::string& address) { return address.starts_with(kUnix); }
std::string path_of(const std::string& address) { return address.substr(5); }

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

std::string with_default_port(const std::string& address, unsigned port) {
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
