// A config.json, in the folder of a model without tensors.
#include <string>

#include "core/checkpoint/checkpoint.h"
#include "core/model/blueprint.h"
#include "tests/fuzz/fuzz.h"
#include "tests/temporary_folder.h"

using namespace pleat;

namespace {

struct Folder : test::TemporaryFolder {
  Folder() { write("model.safetensors", std::string("\2\0\0\0\0\0\0\0{}", 10)); }

  const std::filesystem::path& with_config(std::string_view bytes) {
    write("config.json", std::string(bytes));
    return path();
  }
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
