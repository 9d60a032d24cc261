#include "core/fold/checkpoint_copy.h"

#include <fstream>
#include <map>
#include <set>

#include "core/checkpoint/safetensors_writer.h"
#include "core/checkpoint/tokenizer_files.h"
#include "kernels/check.h"

namespace pleat {
namespace {

namespace fs = std::filesystem;

// Configuration, tokenizer and texts: everything of the folder that is not a weight file.
void copy_small_files(const fs::path& from, const fs::path& to) {
  static const std::set<std::string> kept = {".json", ".txt", ".md", ".model", ".jinja"};
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const fs::path name = entry.path().filename();
    const bool index = name.string().ends_with(".index.json");
    if (!entry.is_regular_file() || index || !kept.contains(name.extension().string())) continue;
    fs::copy_file(entry.path(), to / name);
  }
}

// The same of a GGUF file.
void write_small_files(const Checkpoint& dense, const fs::path& to) {
  const TokenizerFiles files = read_tokenizer_files(dense.folder());
  const auto write = [&](const char* name, const nlohmann::json& content) {
    std::ofstream out(to / name);
    out << content.dump(1) << '\n';
    out.flush();
    if (!out.good()) throw Error(ErrorKind::failed, concat("cannot write ", to / name));
  };
  write("config.json", dense.config());
  write("tokenizer.json", files.tokenizer);
  write("tokenizer_config.json", files.config);
}

}  // namespace

void copy_checkpoint(const Checkpoint& from, const fs::path& folder, const std::map<std::string, std::string>& entries,
                     const std::vector<std::string>& kept,
                     const std::function<std::vector<std::byte>(const std::string&)>& read,
                     const std::vector<NewTensor>& added) {
  if (fs::is_directory(from.folder())) {
    copy_small_files(from.folder(), folder);
  } else {
    write_small_files(from, folder);
  }
  std::map<std::string, std::string> metadata = entries;
  metadata["format"] = "pt";
  for (const auto& [key, value] : from.metadata().items()) {
    if (value.is_string()) metadata.emplace(key, value.get<std::string>());
  }

  SafetensorsWriter out(folder / "model.safetensors", metadata);
  for (const std::string& name : kept) {
    const TensorInfo& info = from.require(name);
    out.add(name, info.dtype, info.shape);
  }
  for (const NewTensor& tensor : added) out.add(tensor.name, tensor.dtype, tensor.shape);
  out.begin();
  for (const std::string& name : kept) {
    const std::vector<std::byte> data = read(name);
    out.write(name, data.data(), data.size());
  }
  for (const NewTensor& tensor : added) {
    size_t bytes = size_of(tensor.dtype);
    for (int64_t extent : tensor.shape) bytes *= size_t(extent);
    out.write(tensor.name, tensor.data, bytes);
  }
  out.finish();
}

}  // namespace pleat
