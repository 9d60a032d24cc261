#pragma once
// The bytes of a GGUF file (version 3), for tests.
#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat::test {

class GgufBytes {
 public:
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;  // rows first
    uint32_t type = 0;           // ggml's
    std::string data;
  };

  static std::string file(const nlohmann::json& metadata, const std::vector<Tensor>& tensors) {
    GgufBytes out;
    out.bytes_ = "GGUF";
    out.number(uint32_t(3));
    out.number(uint64_t(tensors.size()));
    out.number(uint64_t(metadata.size()));
    for (const auto& [key, value] : metadata.items()) {
      out.text(key);
      out.value(value);
    }
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      out.text(tensor.name);
      out.number(uint32_t(tensor.shape.size()));
      for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) out.number(uint64_t(*extent));
      out.number(tensor.type);
      out.number(offset);
      offset += (tensor.data.size() + 31) / 32 * 32;
    }
    out.pad();
    for (const Tensor& tensor : tensors) {
      out.bytes_ += tensor.data;
      out.pad();
    }
    return out.bytes_;
  }

 private:
  template <class T>
  void number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void text(const std::string& value) {
    number(uint64_t(value.size()));
    bytes_ += value;
  }
  void value(const nlohmann::json& value) {
    if (value.is_array()) {  // of flags
      number(uint32_t(9));
      number(uint32_t(7));
      number(uint64_t(value.size()));
      for (const nlohmann::json& flag : value) number(uint8_t(flag.get<bool>()));
    } else if (value.is_string()) {
      number(uint32_t(8));
      text(value.get<std::string>());
    } else if (value.is_boolean()) {
      number(uint32_t(7));
      number(uint8_t(value.get<bool>()));
    } else if (value.is_number_integer()) {
      number(uint32_t(4));
      number(value.get<uint32_t>());
    } else {
      number(uint32_t(6));
      number(value.get<float>());
    }
  }
  void pad() { bytes_.resize((bytes_.size() + 31) / 32 * 32); }
  std::string bytes_;
};

}  // namespace pleat::test
