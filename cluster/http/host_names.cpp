#include "cluster/http/host_names.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

namespace pleat {
namespace {

std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return text;
}

// Without the port, and an IPv6 address without its brackets.
std::string name_of(const std::string& host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return lower_case(host.substr(0, host.find(':')));
}

bool is_ip(const std::string& name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 || inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

// Nobody else can have these lead here.
bool is_own(const std::string& name) {
  char text[256] = {};
  gethostname(text, sizeof text - 1);
  const std::string machine = lower_case(text);
  return name == "localhost" || name.ends_with(".localhost") || is_ip(name) || name == machine ||
         name == machine.substr(0, machine.find('.'));
}

}  // namespace

HostNames::HostNames(std::vector<std::string> listed, bool only_here) : any_(listed.empty() && !only_here) {
  for (std::string& name : listed) listed_.push_back(lower_case(std::move(name)));
}

bool HostNames::listed(const std::string& name) const { return std::ranges::find(listed_, name) != listed_.end(); }

bool HostNames::allows(const std::string& host) const {
  const std::string name = name_of(host);
  return any_ || name.empty() || is_own(name) || listed(name);  // HTTP/1.0 needs no Host
}

bool HostNames::allows_page(const std::string& origin, const std::string& host) const {
  for (const std::string scheme : {"http://", "https://"})
    if (origin.starts_with(scheme)) {
      const std::string site = origin.substr(scheme.size());
      return lower_case(site) == lower_case(host) || listed(name_of(site));
    }
  return false;
}

}  // namespace pleat
