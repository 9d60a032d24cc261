#include "core/checkpoint/checkpoint.h"

#include <atomic>
#include <cstring>
#include <map>
#include <set>
#include <system_error>
#include <type_traits>
#include <unordered_map>

#include "core/checkpoint/file.h"
#include "core/checkpoint/gguf_model.h"
#include "core/checkpoint/json_file.h"
#include "core/checkpoint/safetensors_header.h"
#include "core/checkpoint/slice.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

struct Place {
  StoredTensor tensor;
  size_t file = 0;
};

bool is_there(const std::filesystem::path& path) {
  std::error_code unreadable;  // opening it will say why
  return std::filesystem::exists(path, unreadable) || unreadable;
}

std::string text_of(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

template <class T>
std::vector<float> convert(const std::vector<std::byte>& bytes) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, float>) {
      values[i] = value;
    } else {
      values[i] = to_f32(value);
    }
  }
  return values;
}

}  // namespace

struct Checkpoint::State {
  std::filesystem::path folder;
  nlohmann::json config;
  nlohmann::json metadata = nlohmann::json::object();
  std::vector<File> files;
  std::unordered_map<std::string, Place> places;
  std::atomic<int64_t> bytes_read = 0;

  void open_single() {
    files.emplace_back(folder / kSingleFile);
    SafetensorsHeader header = read_safetensors_header(files.back());
    metadata = std::move(header.metadata);
    for (auto& [name, tensor] : header.tensors) places.emplace(name, Place{std::move(tensor), 0});
  }

  void open_shards() {
    const nlohmann::json index = read_json_file(folder / kIndexFile);
    const bool valid = index.is_object() && index.contains("weight_map") && index["weight_map"].is_object();
    PLEAT_REQUIRE(valid, folder / kIndexFile, " is not valid: it has no weight_map");
    std::map<std::string, std::vector<std::string>> tensors_of;
    for (const auto& [name, shard] : index["weight_map"].items()) {
      PLEAT_REQUIRE(shard.is_string(), folder / kIndexFile, " is not valid: tensor '", name, "' has no file name");
      tensors_of[shard.get<std::string>()].push_back(name);
    }
    for (const auto& [shard, names] : tensors_of) open_shard(shard, names);
  }

  void open_shard(const std::string& shard, const std::vector<std::string>& names) {
    PLEAT_REQUIRE(!shard.empty() && std::filesystem::path(shard).filename() == shard && shard != "..",
                  folder / kIndexFile, " is not valid: '", shard, "' is not the name of a file in this folder");
    PLEAT_REQUIRE(is_there(folder / shard), folder / kIndexFile, " names '", shard, "', which is not there");
    files.emplace_back(folder / shard);
    SafetensorsHeader header = read_safetensors_header(files.back());
    if (files.size() == 1) metadata = std::move(header.metadata);
    for (const std::string& name : names) {
      const auto found = header.tensors.find(name);
      PLEAT_REQUIRE(found != header.tensors.end(), folder / kIndexFile, " says tensor '", name, "' is in '", shard,
                    "', which does not have it");
      places.emplace(name, Place{std::move(found->second), files.size() - 1});
    }
  }

  void open_gguf() {
    files.emplace_back(folder);
    const File& file = files.back();
    const GgufFile gguf = read_gguf(file, false);
    config = gguf_config(gguf, file);
    for (auto& [name, part] : gguf_parts(gguf, config)) {
      StoredTensor tensor;
      tensor.info.shape = part.shape;
      tensor.offset = part.tensor->offset;
      tensor.stored_row = part.stored_row;
      tensor.shift = part.shift;
      set_type(part.tensor->type, part.shape.back(), tensor);
      if (!tensor.unreadable.empty()) {
        places.emplace(name, Place{std::move(tensor), 0});
        continue;
      }
      const int64_t unit = tensor.blocks ? tensor.blocks->values : 1;
      const uint64_t unit_bytes = tensor.blocks ? uint64_t(tensor.blocks->bytes) : size_of(tensor.info.dtype);
      uint64_t units = uint64_t(part.tensor->shape.back() / unit);
      for (size_t i = 0; i + 1 < part.tensor->shape.size(); ++i) units *= uint64_t(part.tensor->shape[i]);
      tensor.bytes = units * unit_bytes;
      PLEAT_REQUIRE(tensor.offset + tensor.bytes <= file.size(), folder, " is not valid: tensor '", part.tensor->name,
                    "' lies beyond the end of the file");
      PLEAT_REQUIRE(tensor.shift == 0 || tensor.info.dtype == DType::f32, folder, ": tensor '", part.tensor->name,
                    "' is ", name_of(tensor.info.dtype), ", expected F32");
      places.emplace(name, Place{std::move(tensor), 0});
    }
  }

  // By ggml's type number.
  static void set_type(uint32_t type, int64_t columns, StoredTensor& tensor) {
    tensor.blocks = block_format(type);
    tensor.info.dtype = type == 1 ? DType::f16 : type == 30 ? DType::bf16 : DType::f32;
    if (type > 1 && type != 30 && !tensor.blocks) tensor.unreadable = ggml_type_name(type);
    if (tensor.blocks && columns % tensor.blocks->values != 0)
      tensor.unreadable = concat(tensor.blocks->name, " with ", columns, " columns");
  }

  const Place& place(const std::string& name) const {
    const auto found = places.find(name);
    PLEAT_REQUIRE(found != places.end(), "tensor '", name, "' is not in ", folder);
    PLEAT_REQUIRE(found->second.tensor.unreadable.empty(), "tensor '", name, "' in ", folder, " has the dtype ",
                  found->second.tensor.unreadable, ", which cannot be read");
    return found->second;
  }
};

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const std::filesystem::path& folder) {
  std::error_code unreadable;
  auto state = std::make_unique<State>();
  state->folder = folder;
  if (std::filesystem::is_regular_file(folder, unreadable)) {
    state->open_gguf();
    return Checkpoint(std::move(state));
  }
  PLEAT_REQUIRE(std::filesystem::is_directory(folder, unreadable), folder, " is neither a folder nor a GGUF file");
  state->config = read_json_file(folder / "config.json");
  PLEAT_REQUIRE(state->config.is_object(), folder / "config.json", " is no JSON object");
  const bool single = is_there(folder / kSingleFile);
  PLEAT_REQUIRE(single || is_there(folder / kIndexFile), folder, " has neither ", kSingleFile, " nor ", kIndexFile);
  single ? state->open_single() : state->open_shards();
  return Checkpoint(std::move(state));
}

const std::filesystem::path& Checkpoint::folder() const { return state_->folder; }
const nlohmann::json& Checkpoint::config() const { return state_->config; }
const nlohmann::json& Checkpoint::metadata() const { return state_->metadata; }
int64_t Checkpoint::bytes_read() const { return state_->bytes_read; }

const TensorInfo* Checkpoint::find(const std::string& name) const {
  const auto found = state_->places.find(name);
  if (found == state_->places.end() || !found->second.tensor.unreadable.empty()) return nullptr;
  return &found->second.tensor.info;
}

const TensorInfo& Checkpoint::require(const std::string& name) const { return state_->place(name).tensor.info; }

const TensorInfo& Checkpoint::require(const std::string& name, const std::vector<int64_t>& shape) const {
  const TensorInfo& info = require(name);
  PLEAT_REQUIRE(info.shape == shape, "tensor '", name, "' is ", text_of(info.shape), ", expected ", text_of(shape));
  return info;
}

std::vector<std::string> Checkpoint::names() const {
  std::set<std::string> sorted;
  for (const auto& [name, place] : state_->places) {
    if (place.tensor.unreadable.empty()) sorted.insert(name);
  }
  return {sorted.begin(), sorted.end()};
}

void Checkpoint::read(const std::string& name, int64_t row_begin, int64_t row_end, int64_t col_begin, int64_t col_end,
                      void* dst) const {
  const Place& place = state_->place(name);
  const auto& shape = place.tensor.info.shape;
  const int64_t rows = shape.size() < 2 ? 1 : shape[0];
  int64_t cols = 1;
  for (size_t i = shape.size() < 2 ? 0 : 1; i < shape.size(); ++i) cols *= shape[i];
  PLEAT_ASSERT(0 <= row_begin && row_begin <= row_end && row_end <= rows, "rows ", row_begin, "..", row_end, " of '",
               name, "' ", text_of(shape));
  PLEAT_ASSERT(0 <= col_begin && col_begin <= col_end && col_end <= cols, "columns ", col_begin, "..", col_end, " of '",
               name, "' ", text_of(shape));
  if (!place.tensor.as_it_is()) {
    state_->bytes_read += int64_t(read_translated(state_->files[place.file], place.tensor, cols, row_begin, row_end,
                                                  col_begin, col_end, static_cast<std::byte*>(dst)));
    return;
  }
  const uint64_t element = size_of(place.tensor.info.dtype);
  const Slice slice{
      .offset = place.tensor.offset + (uint64_t(row_begin) * uint64_t(cols) + uint64_t(col_begin)) * element,
      .rows = uint64_t(row_end - row_begin),
      .row_bytes = uint64_t(cols) * element,
      .width = uint64_t(col_end - col_begin) * element};
  state_->bytes_read += int64_t(read_slice(state_->files[place.file], slice, static_cast<std::byte*>(dst)));
}

std::vector<float> Checkpoint::read_f32(const std::string& name) const {
  const StoredTensor& tensor = state_->place(name).tensor;
  const auto& shape = tensor.info.shape;
  int64_t rows = shape.size() < 2 ? 1 : shape[0], cols = 1;
  for (size_t i = shape.size() < 2 ? 0 : 1; i < shape.size(); ++i) cols *= shape[i];
  std::vector<std::byte> bytes(size_t(rows * cols) * size_of(tensor.info.dtype));
  read(name, 0, rows, 0, cols, bytes.data());
  switch (tensor.info.dtype) {
    case DType::f32:
      return convert<float>(bytes);
    case DType::bf16:
      return convert<bf16>(bytes);
    case DType::f16:
      return convert<f16>(bytes);
    default:
      throw Error(ErrorKind::invalid, concat("tensor '", name, "' has the dtype ", name_of(tensor.info.dtype),
                                             ", expected F32, F16 or BF16"));
  }
}

}  // namespace pleat
