#include "cluster/http/host_names.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <string_view>

#include "kernels/check.h"

namespace pleat {
namespace {

std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return text;
}

// Without the port, the dot that may end a whole name and an IPv6 address's brackets; nullopt: it is none of a host.
std::optional<std::string> name_of(std::string_view host) {
  const bool bracketed = host.starts_with('[');
  if (bracketed && host.find(']') == host.npos) return std::nullopt;
  const size_t end = bracketed ? host.find(']') + 1 : std::min(host.find(':'), host.size());
  const std::string_view port = host.substr(end);
  if (!port.empty() && (port[0] != ':' || port.find_first_not_of("0123456789", 1) != port.npos)) return std::nullopt;
  std::string_view name = bracketed ? host.substr(1, end - 2) : host.substr(0, end);
  if (name.ends_with('.')) name.remove_suffix(1);
  return lower_case(std::string(name));
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

HostNames::HostNames(const std::vector<std::string>& listed, bool only_here) : any_(listed.empty() && !only_here) {
  for (const std::string& entry : listed) {
    const auto name = name_of(entry);
    PLEAT_REQUIRE(name && !name->empty() && name->find_first_of("/, ") == name->npos, "'", entry,
                  "' is no name of a host, such as chat.example");
    listed_.push_back(*name);
  }
}

bool HostNames::listed(const std::string& name) const { return std::ranges::find(listed_, name) != listed_.end(); }

bool HostNames::allows(const std::string& host) const {
  const auto name = name_of(host);
  return any_ || (name && (name->empty() || is_own(*name) || listed(*name)));  // HTTP/1.0 needs no Host
}

bool HostNames::allows_page(const std::string& origin, const std::string& host) const {
  for (const std::string scheme : {"http://", "https://"})
    if (origin.starts_with(scheme)) {
      const std::string site = origin.substr(scheme.size());
      const auto name = name_of(site);
      return lower_case(site) == lower_case(host) || (name && listed(*name));
    }
  return false;
}

}  // namespace pleat
