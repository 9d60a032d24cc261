#include "launcher/launch_event.h"

#include <unistd.h>

#include <ctime>

#include "kernels/check.h"

namespace pleat {
namespace {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

void print(const LaunchEvent& event, bool json) {
  std::string line;
  if (json) {
    nlohmann::ordered_json object = {{"time", utc_now()}, {"event", event.name}, {"attempt", event.attempt}};
    object.update(event.details);
    line = object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  } else {
    line = concat("launch: ", utc_now(), " ", event.name, " ", event.attempt, ": ", event.words, "\n");
  }
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace pleat
