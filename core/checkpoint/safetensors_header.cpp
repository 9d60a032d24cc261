#include "core/checkpoint/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>

#include "core/checkpoint/json_file.h"
#include "kernels/check.h"

namespace pleat {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian and are read as they are");

constexpr int kHeaderDepth = 3;  // { tensor: { "shape": [ ] } }
constexpr size_t kDimensionLimit = 8;

struct StoredType {
  std::string_view name;
  size_t bytes;
  std::optional<DType> dtype;  // absent: its size is known, its values are of no use here
};
constexpr StoredType kStoredTypes[] = {
    {"F32", 4, DType::f32},   {"BF16", 2, DType::bf16},     {"F16", 2, DType::f16},       {"I8", 1, DType::i8},
    {"U8", 1, DType::u8},     {"I32", 4, DType::i32},       {"I64", 8, DType::i64},       {"BOOL", 1, std::nullopt},
    {"F64", 8, std::nullopt}, {"U64", 8, std::nullopt},     {"U32", 4, std::nullopt},     {"I16", 2, std::nullopt},
    {"U16", 2, std::nullopt}, {"F8_E5M2", 1, std::nullopt}, {"F8_E4M3", 1, std::nullopt},
};

const StoredType& stored_type(const nlohmann::json& entry, const std::string& what) {
  const auto dtype = entry.find("dtype");
  PLEAT_REQUIRE(dtype != entry.end() && dtype->is_string(), what, " has no dtype");
  const auto& name = dtype->get_ref<const std::string&>();
  for (const StoredType& type : kStoredTypes) {
    if (type.name == name) return type;
  }
  throw Error(ErrorKind::invalid, concat(what, " has the unknown dtype '", name, "'"));
}

std::vector<uint64_t> numbers(const nlohmann::json& entry, const char* key, const std::string& what) {
  const auto list = entry.find(key);
  PLEAT_REQUIRE(list != entry.end() && list->is_array() && list->size() <= kDimensionLimit, what, " has no valid ",
                key);
  std::vector<uint64_t> values;
  for (const auto& value : *list) {
    PLEAT_REQUIRE(value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t(std::numeric_limits<int64_t>::max()),
                  what, " has no valid ", key);
    values.push_back(value.get<uint64_t>());
  }
  return values;
}

StoredTensor stored_tensor(const nlohmann::json& entry, const std::string& what) {
  PLEAT_REQUIRE(entry.is_object(), what, " has no valid description");
  const StoredType& type = stored_type(entry, what);
  const std::vector<uint64_t> shape = numbers(entry, "shape", what);
  const std::vector<uint64_t> range = numbers(entry, "data_offsets", what);
  PLEAT_REQUIRE(range.size() == 2 && range[0] <= range[1], what, " has no valid data_offsets");

  // An empty tensor's other dimensions must be countable too.
  bool empty = false;
  int64_t counted = int64_t(type.bytes);
  for (const uint64_t dimension : shape) {
    empty = empty || dimension == 0;
    PLEAT_REQUIRE(!__builtin_mul_overflow(counted, std::max<uint64_t>(dimension, 1), &counted), what,
                  " has a shape too large for any file");
  }
  const uint64_t bytes = empty ? 0 : uint64_t(counted);
  PLEAT_REQUIRE(bytes == range[1] - range[0], what, " has ", range[1] - range[0], " bytes, its shape and dtype say ",
                bytes);

  StoredTensor tensor;
  tensor.info.dtype = type.dtype.value_or(DType::u8);
  tensor.info.shape.assign(shape.begin(), shape.end());
  if (!type.dtype) tensor.unreadable = type.name;
  tensor.offset = range[0];
  tensor.bytes = bytes;
  return tensor;
}

// Offsets count from the end of the header; the tensors must fill the rest of the file exactly.
void check_layout(const SafetensorsHeader& header, uint64_t data_bytes, uint64_t file_bytes, const std::string& file) {
  std::vector<const std::pair<const std::string, StoredTensor>*> in_order;
  for (const auto& item : header.tensors) in_order.push_back(&item);
  std::sort(in_order.begin(), in_order.end(), [](auto* a, auto* b) {
    return std::pair(a->second.offset, a->second.bytes) < std::pair(b->second.offset, b->second.bytes);
  });
  uint64_t end = 0;
  for (const auto* item : in_order) {
    const StoredTensor& tensor = item->second;
    PLEAT_REQUIRE(tensor.offset >= end, file, " is not valid: tensor '", item->first, "' overlaps another one");
    PLEAT_REQUIRE(tensor.offset == end, file, " is not valid: unused bytes before tensor '", item->first, "'");
    end = tensor.offset + tensor.bytes;
  }
  PLEAT_REQUIRE(end <= data_bytes, file, " is truncated: header says ", file_bytes - data_bytes + end,
                " bytes, file has ", file_bytes);
  PLEAT_REQUIRE(end == data_bytes, file, " is not valid: ", data_bytes - end, " unused bytes at its end");
}

}  // namespace

SafetensorsHeader read_safetensors_header(const File& file) {
  const std::string name = concat(file.path());
  uint64_t length = 0;
  PLEAT_REQUIRE(file.size() >= sizeof(length), name, " is truncated: ", file.size(), " bytes are no safetensors file");
  file.read(0, sizeof(length), &length);
  PLEAT_REQUIRE(length <= kSafetensorsHeaderLimit, name, " is not a safetensors file: its header would be ", length,
                " bytes long");
  PLEAT_REQUIRE(length <= file.size() - sizeof(length), name, " is truncated: header says at least ",
                length + sizeof(length), " bytes, file has ", file.size());
  std::string text(length, '\0');
  file.read(sizeof(length), length, text.data());

  const nlohmann::json json = parse_json(text, "the header of " + name, kHeaderDepth);
  PLEAT_REQUIRE(json.is_object(), name, " is not valid: its header is no JSON object");
  SafetensorsHeader header;
  for (const auto& [key, entry] : json.items()) {
    if (key == "__metadata__") {
      PLEAT_REQUIRE(entry.is_object(), name, " is not valid: __metadata__ is no JSON object");
      for (const auto& [item, value] : entry.items()) {
        PLEAT_REQUIRE(value.is_string(), name, " is not valid: '", item, "' in __metadata__ is not a string");
      }
      header.metadata = entry;
    } else {
      header.tensors.emplace(key, stored_tensor(entry, concat(name, " is not valid: tensor '", key, "'")));
    }
  }
  const uint64_t data_begin = sizeof(length) + length;
  check_layout(header, file.size() - data_begin, file.size(), name);
  for (auto& [key, tensor] : header.tensors) tensor.offset += data_begin;
  return header;
}

}  // namespace pleat
