#pragma once
// Whole answers over HTTP.
#include <kj/compat/http.h>

#include <string>

#include "cluster/http/openai_format.h"

namespace pleat {

// Also says that nobody else may keep it or take it for something that it is not.
kj::Promise<void> reply(kj::HttpService::Response& response, const kj::HttpHeaderTable& table, int status,
                        const std::string& type, std::string body, uint32_t retry_after_ms = 0);
kj::Promise<void> reply(kj::HttpService::Response& response, const kj::HttpHeaderTable& table, const HttpError& error);

// "Not Found" for 404.
const char* status_text(int status);

}  // namespace pleat
