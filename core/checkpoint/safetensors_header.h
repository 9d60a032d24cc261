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

namespace pleat {

constexpr uint64_t kSafetensorsHeaderLimit = 100'000'000;

struct StoredTensor {
  TensorInfo info;
  std::string unreadable;  // the dtype's name where Pleat does not read it (BOOL masks); else empty
  uint64_t offset = 0;     // in the file
  uint64_t bytes = 0;
};

struct SafetensorsHeader {
  nlohmann::json metadata = nlohmann::json::object();
  std::map<std::string, StoredTensor> tensors;
};

// Checked in full: what comes out is within the file, without overlaps or holes, and shapes fit the byte counts.
SafetensorsHeader read_safetensors_header(const File& file);

}  // namespace pleat
