#pragma once
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "core/text/jinja_syntax.h"
#include "core/text/jinja_value.h"

namespace pleat::jinja {

// The text of a template. Work, depth and output are bounded, whatever the template does. now: what strftime_now shows.
// Error(invalid).
std::string render(const std::vector<Statement>& statements, std::map<std::string, Value> globals, std::time_t now);

}  // namespace pleat::jinja
