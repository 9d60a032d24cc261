#pragma once
// JSON that a client sent.
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace pleat {

// The object that the text is. Error(invalid), `what` being its name in the sentence: "the body", "line 7". Deep
// nesting is no request, and reading it takes the stack.
nlohmann::json read_object(const std::string& text, const std::string& what);

}  // namespace pleat
