#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pleat {

constexpr size_t kJsonFileLimit = size_t(256) << 20;
constexpr int kJsonDepthLimit = 64;
constexpr int kMetadataDepth = 8;  // of what a checkpoint's own metadata holds

// Error(invalid) naming `what` if the text is not JSON or is nested more than `depth_limit` deep or repeats a key.
nlohmann::json parse_json(std::string_view text, const std::string& what, int depth_limit = kJsonDepthLimit);
// Error(invalid) naming the file if it cannot be read, is larger than kJsonFileLimit, or does not parse.
nlohmann::json read_json_file(const std::filesystem::path& path);

}  // namespace pleat
