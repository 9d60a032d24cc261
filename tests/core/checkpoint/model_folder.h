#pragma once
#include <cstdint>
#include <string>

#include "tests/temporary_folder.h"

namespace pleat {

// A temporary folder with a config.json.
struct ModelFolder : test::TemporaryFolder {
  ModelFolder() { write("config.json", R"({"model_type": "gpt2"})"); }
};

inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
}

}  // namespace pleat
