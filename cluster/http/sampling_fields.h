#pragma once
// The fields of a request's body that say how to sample: OpenAI's completions and chat completions, with the extensions
// of vLLM.
#include <span>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "core/engine/request.h"

namespace pleat {

// `defaults` stand for the fields that a body does not give; `others` are the caller's to read. Error(invalid) naming
// the first field that is of the wrong type, or would change the result and is not supported.
SamplingOptions sampling_from_body(const nlohmann::json& body, bool chat, const SamplingOptions& defaults,
                                   std::span<const std::string_view> others);

}  // namespace pleat
