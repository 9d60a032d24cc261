#pragma once
// What Python's text methods do, over UTF-8; case is changed character by character (ß stays, and σ at the end of a
// word).
#include <optional>
#include <string>
#include <string_view>

#include "core/text/jinja_functions.h"

namespace pleat::jinja {

std::string string_of(const Value& value, int line, const char* what);  // Error(invalid) where it is none
int64_t integer_of(const Value& value, int line, const char* what);     // likewise; at most 9e15, as in arithmetic
// Without these characters, white space where they are none, at the left and right end.
std::string stripped(std::string_view text, const Value& characters, bool left, bool right, const Arguments& a);
std::string upper_case(std::string_view text);
std::string lower_case(std::string_view text);
std::string titled_words(std::string_view text);
std::string capitalized(std::string_view text);
// most < 0: everywhere.
std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t most, int line);
// At white space where the separator is none; most < 0: everywhere.
Json split(std::string_view text, const Value& separator, int64_t most, int line);
std::string centered(std::string_view text, int64_t width, int line);
int64_t word_count(std::string_view text);  // of letters, digits and underscores
std::string indented(std::string_view text, const Arguments& arguments);
// As Python's float() and int() read a text; nullopt where they do not.
std::optional<double> float_of(std::string_view text);
std::optional<int64_t> whole_of(std::string_view text, int line);
Value string_method(const std::string& text, const std::string& name, const Arguments& arguments);

}  // namespace pleat::jinja
