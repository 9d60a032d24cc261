#pragma once
// What Python's text methods do, over UTF-8; case is changed in ASCII only.
#include <string>

#include "core/text/jinja_functions.h"

namespace pleat::jinja {

std::string string_of(const Value& value, int line, const char* what);  // Error(invalid) where it is none
int64_t integer_of(const Value& value, int line, const char* what);     // likewise
std::string stripped(const std::string& text, const std::string& characters, bool left, bool right);
std::string changed_case(std::string text, int (*change)(int));
std::string titled_words(std::string text);
std::string capitalized(std::string text);
std::string replaced(const std::string& text, const std::string& from, const std::string& to);
// At white space where the separator is none; most < 0: everywhere.
Json split(const std::string& text, const Value& separator, int64_t most, int line);
Value string_method(const std::string& text, const std::string& name, const Arguments& arguments);

}  // namespace pleat::jinja
