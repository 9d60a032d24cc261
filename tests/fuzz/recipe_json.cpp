// A recipe of `pleat fold`, for plain and for gated FFNs.
#include "core/fold/layer_recipe.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  for (const bool gated : {false, true})
    fuzz::accepts([&] {
      for (const LayerRecipe& recipe : read_recipe(file.path(), 2, gated)) to_text(recipe, gated);
    });
  return 0;
}
