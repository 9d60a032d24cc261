#pragma once
// What `pleat launch` did and why: a line each on stderr.
#include <string>

#include <nlohmann/json.hpp>

namespace pleat {

struct LaunchEvent {
  std::string name;                // start, stop, restart, signal, give up
  int attempt = 1;                 // which start of the job it belongs to
  std::string words;               // for people
  nlohmann::ordered_json details;  // for programs: an object
};

// "launch: 2026-11-26T09:30:00Z start 1: ...", or with `json` one object.
void print(const LaunchEvent& event, bool json);

}  // namespace pleat
