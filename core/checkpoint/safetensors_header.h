#pragma once
// The header of a safetensors file: 8 bytes of length, that many bytes of JSON, then the tensors' bytes without gaps.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/file.h"
#include "core/checkpoint/stored_tensor.h"

namespace pleat {

constexpr uint64_t kSafetensorsHeaderLimit = 100'000'000;

struct SafetensorsHeader {
  nlohmann::json metadata = nlohmann::json::object();
  std::map<std::string, StoredTensor> tensors;
};

// Checked in full: what comes out is within the file, without overlaps or holes, and shapes fit the byte counts.
SafetensorsHeader read_safetensors_header(const File& file);

}  // namespace pleat
