#pragma once
// The page that a browser gets: one file, without anything from elsewhere (page.html, embedded by CMake).
#include <string>

namespace pleat {

const std::string& page();

}  // namespace pleat
