#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/text/jinja_syntax.h"
#include "core/text/jinja_value.h"

namespace pleat::jinja {

// The text of a template. Work, depth and output are bounded, whatever the template does. Error(invalid).
std::string render(const std::vector<Statement>& statements, std::map<std::string, Value> globals);

}  // namespace pleat::jinja
