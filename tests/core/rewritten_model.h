#pragma once
// A copy of a small model with other tensors.
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/safetensors_writer.h"

namespace pleat::test {

// change(name, values): what the tensor is called in the copy; may change its values. All are written in f32.
inline void rewrite_model(
    const std::filesystem::path& from, const std::filesystem::path& to,
    const std::function<std::string(const std::string& name, std::vector<float>& values)>& change) {
  std::filesystem::create_directories(to);
  std::filesystem::copy_file(from / "config.json", to / "config.json");
  const Checkpoint source = Checkpoint::open(from);
  std::map<std::string, std::vector<float>> tensors;
  SafetensorsWriter out(to / "model.safetensors");
  for (const std::string& name : source.names()) {
    std::vector<float> values = source.read_f32(name);
    const std::string renamed = change(name, values);
    out.add(renamed, DType::f32, source.require(name).shape);
    tensors[renamed] = std::move(values);
  }
  out.begin();
  for (const std::string& name : source.names()) {
    std::vector<float> none;
    const std::string renamed = change(name, none);
    out.write(renamed, tensors[renamed].data(), tensors[renamed].size() * sizeof(float));
  }
  out.finish();
}

}  // namespace pleat::test
