#pragma once
// The fields of a request's body (OpenAI's completions and chat completions, with the sampling extensions of vLLM) into
// a Request.
#include <string>

#include <nlohmann/json.hpp>

#include "core/engine/request.h"
#include "core/text/model_text.h"

namespace pleat {

// Error(invalid) naming the first field that is missing, of the wrong type, or would change the result and is not
// supported. A body with 'messages' is a chat.
Request request_from_body(const nlohmann::json& body, const SamplingOptions& defaults, const ModelText& text);

}  // namespace pleat
