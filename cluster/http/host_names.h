#pragma once
// The names under which an HTTP door is asked. A page of another site can have its own name lead to this machine ("DNS
// rebinding"), and a browser then takes the door for that site's: only what it calls the door tells them apart.
#include <string>
#include <vector>

namespace pleat {

class HostNames {
 public:
  // Any name.
  HostNames() = default;
  // These, beside the machine's own; where only this machine's programs reach the door, no others. Error(invalid) where
  // one is no name.
  HostNames(const std::vector<std::string>& listed, bool only_here);

  // Of a Host field, with or without a port.
  bool allows(const std::string& host) const;
  // Of the Origin of a browser's page: it is the door's own, or that of a listed name.
  bool allows_page(const std::string& origin, const std::string& host) const;

 private:
  bool listed(const std::string& name) const;

  std::vector<std::string> listed_;  // in lower case
  bool any_ = true;
};

}  // namespace pleat
