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
    number(type_of(value));
    if (!value.is_array()) return content(value);
    number(value.empty() ? uint32_t(8) : type_of(value[0]));
    number(uint64_t(value.size()));
    for (const nlohmann::json& item : value) content(item);
  }
  static uint32_t type_of(const nlohmann::json& value) {
    return value.is_array() ? 9 : value.is_string() ? 8 : value.is_boolean() ? 7 : value.is_number_integer() ? 4 : 6;
  }
  void content(const nlohmann::json& value) {
    if (value.is_string())
      text(value.get<std::string>());
    else if (value.is_boolean())
      number(uint8_t(value.get<bool>()));
    else if (value.is_number_integer())
      number(value.get<uint32_t>());
    else
      number(value.get<float>());
  }
  void pad() { bytes_.resize((bytes_.size() + 31) / 32 * 32); }
  std::string bytes_;
};

}  // namespace pleat::test
