#include "core/checkpoint/gguf_file.h"

#include <cstring>
#include <set>

#include "kernels/check.h"

namespace pleat {
namespace {

// Reads the header front to back through a window of the file; every length is checked against what the file has left.
class Reader {
 public:
  explicit Reader(const File& file) : file_(file) {}

  template <class T>
  T number() {
    T value;
    take(&value, sizeof(value));
    return value;
  }
  std::string text() {
    const uint64_t length = number<uint64_t>();
    require(length);
    std::string value(size_t(length), '\0');
    take(value.data(), value.size());
    return value;
  }
  void skip(uint64_t count, uint64_t bytes) {
    require(count, bytes);
    position_ += count * bytes;
  }
  // That `count` things of at least `bytes` each can still follow.
  void require(uint64_t count, uint64_t bytes = 1) const {
    PLEAT_REQUIRE(count <= (file_.size() - position_) / bytes, file_.path(),
                  " is not valid: it ends inside its header");
  }
  uint64_t position() const { return position_; }
  const File& file() const { return file_; }

 private:
  void take(void* out, size_t bytes) {
    require(bytes);
    auto* to = static_cast<std::byte*>(out);
    while (bytes > 0) {
      if (position_ < window_begin_ || position_ >= window_begin_ + window_.size()) refill();
      const size_t place = size_t(position_ - window_begin_), here = std::min(bytes, window_.size() - place);
      std::memcpy(to, window_.data() + place, here);
      to += here;
      bytes -= here;
      position_ += here;
    }
  }
  void refill() {
    window_begin_ = position_;
    window_.resize(size_t(std::min<uint64_t>(1 << 20, file_.size() - position_)));
    file_.read(position_, window_.size(), window_.data());
  }

  const File& file_;
  uint64_t position_ = 0, window_begin_ = 0;
  std::vector<std::byte> window_;
};

enum ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

nlohmann::json read_scalar(Reader& reader, uint32_t type, const std::string& key) {
  switch (type) {
    case u8:
      return reader.number<uint8_t>();
    case i8:
      return reader.number<int8_t>();
    case u16:
      return reader.number<uint16_t>();
    case i16:
      return reader.number<int16_t>();
    case u32:
      return reader.number<uint32_t>();
    case i32:
      return reader.number<int32_t>();
    case f32:
      return reader.number<float>();
    case boolean:
      return reader.number<uint8_t>() != 0;
    case string:
      return reader.text();
    case u64:
      return reader.number<uint64_t>();
    case i64:
      return reader.number<int64_t>();
    case f64:
      return reader.number<double>();
    default:
      throw Error(ErrorKind::invalid, concat(reader.file().path(), " is not valid: '", key, "' has the type ", type));
  }
}

void skip_list(Reader& reader, uint32_t type, uint64_t count, const std::string& key) {
  for (uint64_t i = 0; i < count && type == string; ++i) reader.skip(reader.number<uint64_t>(), 1);
  if (count == 0 || type == string) return;
  const uint64_t first = reader.position();
  read_scalar(reader, type, key);
  reader.skip(count - 1, reader.position() - first);
}

constexpr uint64_t kShortList = 64;  // such as the ids that end a text

nlohmann::json read_value(Reader& reader, const std::string& key, bool skip_long_lists) {
  const uint32_t type = reader.number<uint32_t>();
  if (type != array) return read_scalar(reader, type, key);
  const uint32_t element = reader.number<uint32_t>();
  const uint64_t count = reader.number<uint64_t>();
  reader.require(count);
  nlohmann::json values = nlohmann::json::array();
  if (skip_long_lists && count > kShortList) {
    skip_list(reader, element, count, key);
    return values;
  }
  for (uint64_t i = 0; i < count; ++i) values.push_back(read_scalar(reader, element, key));
  return values;
}

GgufTensor read_tensor(Reader& reader) {
  GgufTensor tensor;
  tensor.name = reader.text();
  const uint32_t dimensions = reader.number<uint32_t>();
  PLEAT_REQUIRE(dimensions >= 1 && dimensions <= 4, reader.file().path(), " is not valid: tensor '", tensor.name,
                "' has ", dimensions, " dimensions");
  constexpr uint64_t kLargest = uint64_t(1) << 48;
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const uint64_t extent = reader.number<uint64_t>();
    PLEAT_REQUIRE(extent >= 1 && extent <= kLargest / elements, reader.file().path(), " is not valid: tensor '",
                  tensor.name, "' is impossibly large");
    elements *= extent;
    tensor.shape.insert(tensor.shape.begin(), int64_t(extent));
  }
  tensor.type = reader.number<uint32_t>();
  tensor.offset = reader.number<uint64_t>();
  return tensor;
}

}  // namespace

GgufFile read_gguf(const File& file, bool with_vocabulary) {
  Reader reader(file);
  PLEAT_REQUIRE(file.size() >= 24 && reader.number<uint32_t>() == 0x46554747, file.path(), " is not a GGUF file");
  const uint32_t version = reader.number<uint32_t>();
  PLEAT_REQUIRE(version == 2 || version == 3, file.path(), " is GGUF version ", version, ", known: 2, 3");
  const uint64_t tensors = reader.number<uint64_t>(), values = reader.number<uint64_t>();
  reader.require(tensors, 32);
  reader.require(values, 13);
  GgufFile gguf;
  for (uint64_t i = 0; i < values; ++i) {
    const std::string key = reader.text();
    PLEAT_REQUIRE(!gguf.metadata.contains(key), file.path(), " is not valid: it has '", key, "' twice");
    gguf.metadata[key] = read_value(reader, key, !with_vocabulary && key.starts_with("tokenizer."));
  }
  const auto number = [&](const char* key) {
    const nlohmann::json value = gguf.metadata.value(key, nlohmann::json(0u));
    return value.is_number_unsigned() ? value.get<uint64_t>() : 0;
  };
  PLEAT_REQUIRE(number("split.count") <= 1, file.path(), " is part ", number("split.no") + 1, " of ",
                number("split.count"), "; join them with llama-gguf-split --merge");
  std::set<std::string> names;
  for (uint64_t i = 0; i < tensors; ++i) {
    gguf.tensors.push_back(read_tensor(reader));
    PLEAT_REQUIRE(names.insert(gguf.tensors.back().name).second, file.path(), " is not valid: it has tensor '",
                  gguf.tensors.back().name, "' twice");
  }
  const nlohmann::json aligned = gguf.metadata.value("general.alignment", nlohmann::json(uint64_t(32)));
  PLEAT_REQUIRE(aligned.is_number_unsigned() && aligned.get<uint64_t>() >= 1 && aligned.get<uint64_t>() <= 1 << 20,
                file.path(), " is not valid: general.alignment is ", aligned.dump());
  const uint64_t alignment = aligned.get<uint64_t>();
  const uint64_t data = (reader.position() + alignment - 1) / alignment * alignment;
  for (GgufTensor& tensor : gguf.tensors) {
    PLEAT_REQUIRE(data <= file.size() && tensor.offset <= file.size() - data, file.path(), " is not valid: tensor '",
                  tensor.name, "' lies beyond the end of the file");
    tensor.offset += data;
  }
  return gguf;
}

}  // namespace pleat
