// The tensors of a folded and quantised model, as two ranks load them. Bytes of a good file are changed: four of the
// input say where one is and what it becomes.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/file.h"
#include "core/engine/engine.h"
#include "core/engine/weights.h"
#include "core/fold/fold.h"
#include "kernels/context.h"
#include "tests/fuzz/fuzz.h"
#include "tests/temporary_folder.h"

using namespace pleat;

namespace {

constexpr int kRanks = 2;

class Folded {
 public:
  Folded() {
    const std::string source = PLEAT_SOURCE_DIR, model = folder_ / "dense";
    std::filesystem::copy(source + "/tests/fixtures/families/gpt2", model);
    std::filesystem::copy(source + "/tests/fixtures/families/tokenizer.json", model);
    FoldOptions options;
    options.model = model;
    options.text = source + "/examples/calibration.txt";
    options.out = folder();
    options.recipe = folder_.write("recipe.json", R"({"layers": [
        {"selection": "range", "exact": 0.2, "up": "int4", "down": "int3"}, {"selection": "all", "up": "planes2", "down": "int4"}]})");
    options.max_tokens = 1024;
    options.oversubscribed = true;
    fold_model(options);
    bytes_ = read_whole(path());
  }

  std::string folder() const { return folder_ / "folded"; }

  void change(const uint8_t* data, size_t size) const {
    std::string changed = bytes_;
    for (; size >= 4; data += 4, size -= 4) {
      uint32_t where = 0;
      std::memcpy(&where, data, 3);
      changed[where % changed.size()] = char(data[3]);
    }
    const int file = ::open(path().c_str(), O_WRONLY);
    fuzz::expect(::pwrite(file, changed.data(), changed.size(), 0) == ssize_t(changed.size()),
                 "the file can be changed");
    ::close(file);
  }

 private:
  std::string path() const { return folder() + "/model.safetensors"; }

  test::TemporaryFolder folder_;
  std::string bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folded folded;
  static Context context(1, false);
  folded.change(data, size);
  fuzz::accepts([&] {
    const Checkpoint checkpoint = Checkpoint::open(folded.folder());
    const Blueprint blueprint = read_blueprint(checkpoint);
    const ShardPlan plan(sizes_of(blueprint), kRanks, Reduction::invariant);
    for (int rank = 0; rank < kRanks; ++rank)
      load_weights(checkpoint, blueprint, plan, rank, WeightFormat::bf16, false, context.team(), {});
  });
  return 0;
}
