// A config.json, in the folder of a model without tensors.
#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "core/checkpoint/checkpoint.h"
#include "core/model/blueprint.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

namespace {

class Folder {
 public:
  Folder() {
    std::filesystem::create_directory(path_);
    constexpr char kEmpty[] = "\2\0\0\0\0\0\0\0{}";
    std::ofstream(path_ / "model.safetensors", std::ios::binary).write(kEmpty, sizeof(kEmpty) - 1);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;

  const std::filesystem::path& with_config(std::string_view bytes) {
    std::ofstream(path_ / "config.json", std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
    return path_;
  }

 private:
  const std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("pleat-fuzz-" + std::to_string(::getpid()));
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder folder;
  fuzz::accepts([&] {
    const Blueprint blueprint = read_blueprint(Checkpoint::open(folder.with_config(fuzz::text_of(data, size))));
    fuzz::expect(int(blueprint.attention.size()) == blueprint.layers, "every layer says what it attends to");
    for (const LayerAttention& layer : blueprint.attention)
      fuzz::expect(layer.rotary < int(blueprint.rotaries.size()) || blueprint.positions != PositionKind::rotary,
                   "every layer's rotation is there");
  });
  return 0;
}
