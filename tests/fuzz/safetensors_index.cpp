// A model.safetensors.index.json, in the folder of a model of two files.
#include <string>

#include "core/checkpoint/checkpoint.h"
#include "tests/fuzz/fuzz.h"
#include "tests/temporary_folder.h"

using namespace pleat;

namespace {

std::string file_with(const std::string& tensor) {
  const std::string header = R"({")" + tensor + R"(":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  return std::string(1, char(header.size())) + std::string(7, '\0') + header + std::string(24, '\1');
}

struct Folder : test::TemporaryFolder {
  Folder() {
    write("config.json", "{}");
    write("model-1.safetensors", file_with("a"));
    write("model-2.safetensors", file_with("b"));
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder folder;
  folder.write("model.safetensors.index.json", std::string(fuzz::text_of(data, size)));
  fuzz::accepts([&] {
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    for (const std::string& name : checkpoint.names())
      fuzz::expect(checkpoint.read_f32(name).size() == 6, "what is listed can be read");
  });
  return 0;
}
