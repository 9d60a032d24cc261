// A GGUF file: its tensors, the model it describes, its tokenizer.
#include "core/checkpoint/checkpoint.h"
#include "core/model/blueprint.h"
#include "core/text/model_text.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

namespace {

void read_tensors(const Checkpoint& checkpoint, size_t file_bytes) {
  for (const std::string& name : checkpoint.names()) {
    const std::vector<int64_t>& shape = checkpoint.require(name).shape;
    int64_t values = 1;
    for (const int64_t extent : shape) values *= extent;
    fuzz::expect(values >= 0 && uint64_t(values) <= 32 * file_bytes, "a tensor lies within its file");
    fuzz::accepts([&] { checkpoint.read_f32(name); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile memory(fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const Checkpoint checkpoint = Checkpoint::open(memory.path());
    read_tensors(checkpoint, size);
    fuzz::accepts([&] { read_blueprint(checkpoint); });
  });
  fuzz::accepts([&] { ModelText::open(memory.path()).tokenizer.encode_with_special(" the cat's 42"); });
  return 0;
}
